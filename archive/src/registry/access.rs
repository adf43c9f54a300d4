//! Ways to reach a registry: credentials, certificates, plain HTTP.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;

use super::reference::Reference;
use crate::error::{ErrorKind, Fault};
use crate::oci::{MOST, check_size, json};

/// Ways to reach a registry.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Access {
    /// Name and password. Without them, the files with credentials are read.
    pub credentials: Option<Credentials>,
    /// File with credentials, in the form of Podman and Docker. Without it, these files are read
    /// where they exist: that in the variable `REGISTRY_AUTH_FILE`,
    /// `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json` and
    /// `~/.docker/config.json`. Programs that keep credentials (`credHelpers`) are not asked.
    pub authfile: Option<PathBuf>,
    /// File with certificates of authorities to trust beside the system's, in PEM form.
    pub ca: Option<PathBuf>,
    /// Plain HTTP, without TLS: everybody on the way can read and change what is sent.
    pub plain_http: bool,
}

/// A name and a password.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials {
    pub(super) name: String,
    pub(super) password: String,
}

impl Credentials {
    /// Takes a name and a password.
    pub fn new(name: impl Into<String>, password: impl Into<String>) -> Self {
        Self { name: name.into(), password: password.into() }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Credentials that were looked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    pub(super) credentials: Option<Credentials>,
    /// Reason why a file that knows the registry gives no credentials, with the path of the file.
    pub(super) unused: Option<String>,
}

impl Access {
    /// Looks for the credentials for a reference.
    pub(super) fn find(&self, reference: &Reference) -> Result<Found, Fault> {
        if let Some(credentials) = &self.credentials {
            return Ok(Found { credentials: Some(credentials.clone()), unused: None });
        }
        let mut found = Found::default();
        let given = self.authfile.clone().or_else(|| variable("REGISTRY_AUTH_FILE"));
        let files = match &given {
            Some(file) => vec![file.clone()],
            None => usual_files(),
        };
        for file in files {
            let bytes = match read(&file) {
                Ok(bytes) => bytes,
                Err(error) if given.is_none() && error.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => {
                    return Err(Fault::from(error).of(file.to_string_lossy()));
                }
            };
            let auths = json(&bytes).map_err(|fault| fault.of(file.to_string_lossy()))?;
            look(&auths, reference, &file, &mut found)
                .map_err(|fault| fault.of(file.to_string_lossy()))?;
            if found.credentials.is_some() {
                break;
            }
        }
        Ok(found)
    }
}

/// A file with credentials.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Auths {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: Option<String>,
    /// Token of a login for which no password is kept.
    #[serde(default)]
    identitytoken: Option<String>,
}

fn look(auths: &Auths, reference: &Reference, file: &Path, to: &mut Found) -> Result<(), Fault> {
    let keys = keys(reference);
    let entry = keys.iter().find_map(|key| {
        let same = |at: &&String| plain(at) == *key;
        auths.auths.iter().find(|(at, _)| same(at)).map(|(_, auth)| auth)
    });
    let filled = |text: &&String| !text.is_empty();
    if entry.and_then(|entry| entry.identitytoken.as_ref()).is_some_and(|token| filled(&token)) {
        let text = format!("{} has an identity token, which is not used", file.display());
        to.unused.get_or_insert(text);
        return Ok(());
    }
    if let Some(text) = entry.and_then(|entry| entry.auth.as_ref()).filter(filled) {
        let wrong = || Fault::from(ErrorKind::Malformed("has credentials of an unknown form"));
        let bytes = FORM.decode(text).map_err(|_| wrong())?;
        let text = String::from_utf8(bytes).map_err(|_| wrong())?;
        let (name, password) = text.split_once(':').ok_or_else(wrong)?;
        to.credentials = Some(Credentials::new(name, password));
        return Ok(());
    }
    let asks = auths.cred_helpers.keys().any(|at| keys.contains(&plain(at)));
    if asks || auths.creds_store.as_ref().is_some_and(|store| !store.is_empty()) {
        let name = file.display();
        let text = format!("{name} leaves the credentials to another program, which is not asked");
        to.unused.get_or_insert(text);
    }
    Ok(())
}

/// Returns the keys under which credentials may stand: from the whole name to the host alone.
fn keys(reference: &Reference) -> Vec<String> {
    let mut keys = Vec::new();
    let mut key = format!("{}/{}", reference.registry(), reference.repository());
    while let Some((shorter, _)) = key.rsplit_once('/') {
        let shorter = shorter.to_owned();
        keys.push(std::mem::replace(&mut key, shorter));
    }
    keys.push(key);
    if reference.registry() == "docker.io" {
        keys.push("index.docker.io".to_owned());
    }
    keys
}

/// Returns a key without scheme and version, as older programs wrote it: `https://host/v1/`.
fn plain(key: &str) -> String {
    let rest = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    match rest {
        Some(rest) => rest.split('/').next().unwrap_or(rest).to_owned(),
        None => key.trim_end_matches('/').to_owned(),
    }
}

fn usual_files() -> Vec<PathBuf> {
    let home = variable("HOME");
    let below = |directory: &Option<PathBuf>, name: &str| directory.as_ref().map(|d| d.join(name));
    let config = variable("XDG_CONFIG_HOME").or_else(|| below(&home, ".config"));
    let docker = variable("DOCKER_CONFIG").or_else(|| below(&home, ".docker"));
    let files = [
        below(&variable("XDG_RUNTIME_DIR"), "containers/auth.json"),
        below(&config, "containers/auth.json"),
        below(&docker, "config.json"),
    ];
    files.into_iter().flatten().collect()
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// Reads a file that is not too large.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read;

    let file = fs::File::open(path)?;
    let mut bytes = Vec::new();
    file.take(MOST + 1).read_to_end(&mut bytes)?;
    check_size(bytes.len() as u64).map_err(|_| io::Error::other("is larger than 4 MiB"))?;
    Ok(bytes)
}

/// Base64 with or without `=` at its end.
const FORM: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, reference: &str) -> Option<(String, String)> {
        let auths: Auths = serde_json::from_str(text).unwrap();
        let mut found = Found::default();
        look(&auths, &reference.parse().unwrap(), Path::new("auth.json"), &mut found).unwrap();
        found.credentials.map(|found| (found.name, found.password))
    }

    #[test]
    fn the_longest_name_has_the_credentials() {
        let of = |name: &str| FORM.encode(format!("{name}:pass:word"));
        let text = format!(
            r#"{{"auths":{{"host.org":{{"auth":"{}"}},"host.org/team":{{"auth":"{}"}},
            "https://other.org/v1/":{{"auth":"{}"}},"empty.org":{{}}}}}}"#,
            of("host"),
            of("team"),
            of("other")
        );
        let name = |reference: &str| found(&text, reference).map(|(name, _)| name);
        assert_eq!(name("host.org/x").as_deref(), Some("host"));
        assert_eq!(name("host.org/team/x").as_deref(), Some("team"));
        assert_eq!(name("host.org/teams/x").as_deref(), Some("host"));
        assert_eq!(name("other.org/x").as_deref(), Some("other"));
        assert_eq!(name("empty.org/x"), None);
        assert_eq!(name("host.org.evil.org/x"), None);
        let password = found(&text, "host.org/x").unwrap().1;
        assert_eq!(password, "pass:word");
        let shown = format!("{:?}", Credentials::new("name", "secret"));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_file_that_leaves_credentials_to_a_program_is_told() {
        let auths: Auths = serde_json::from_str(r#"{"credsStore":"pass"}"#).unwrap();
        let mut found = Found::default();
        let reference = "host.org/x".parse().unwrap();
        look(&auths, &reference, Path::new("config.json"), &mut found).unwrap();
        let said = "config.json leaves the credentials to another program, which is not asked";
        assert_eq!(found.unused.as_deref(), Some(said));
    }

    #[test]
    fn credentials_need_no_padding() {
        // `me:word`.
        let text = r#"{"auths":{"host.org":{"auth":"bWU6d29yZA"}}}"#;
        assert_eq!(found(text, "host.org/x"), Some(("me".to_owned(), "word".to_owned())));
    }

    #[test]
    fn an_identity_token_is_told() {
        // `none:`, and the token.
        let text = r#"{"auths":{"host.org":{"auth":"bm9uZTo=","identitytoken":"abc"}}}"#;
        let auths: Auths = serde_json::from_str(text).unwrap();
        let mut found = Found::default();
        let reference = "host.org/x".parse().unwrap();
        look(&auths, &reference, Path::new("auth.json"), &mut found).unwrap();
        assert!(found.credentials.is_none());
        let said = "auth.json has an identity token, which is not used";
        assert_eq!(found.unused.as_deref(), Some(said));
    }
}
