//! Messages that hold secrets, without them.

use std::fmt;

use super::messages::AuthConfig;

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_not_shown() {
        let auth = AuthConfig {
            username: "lab".into(),
            password: "hunter2".into(),
            auth: "hunter2".into(),
            identity_token: "hunter2".into(),
            registry_token: "hunter2".into(),
            ..AuthConfig::default()
        };
        let shown = format!("{auth:?}");
        assert!(shown.contains("lab") && !shown.contains("hunter2"), "{shown}");
    }
}
