//! The limits of a page server.

use std::time::Duration;

/// The limits that a page server sets its clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Sessions at once. More wait until one ends. 64 by default. A quarter of them is for the
    /// server's own user and root.
    pub connections: usize,
    /// Sessions at once of one peer: another user of this machine, an address, or a network of 64
    /// bits with IPv6. More wait until one ends. 32 by default. The server's own user and root may
    /// have all sessions.
    pub per_peer: usize,
    /// Connections at once that are not sessions yet, because they have not sent their first header
    /// or there are too many sessions. 512 by default, and at most a quarter of the descriptors
    /// that the process may open. A new connection takes the place of the oldest that is silent, of
    /// the peer that has most. One peer gets half the places, and all together three quarters,
    /// other than the server's own user and root. Connections of these two give way to each other
    /// only, and only after 15 seconds of silence.
    pub waiting: usize,
    /// Time for agreeing on TLS. 30 seconds by default. The first header has the time of `idle` or
    /// this time, whichever is longer: CRIU connects before it freezes the tasks, and a pre-dump
    /// sends pages when it has seen to all tasks.
    pub first: Duration,
    /// Time that a client may take for a header or a page, if limited. 60 seconds by default. A
    /// client that sends a byte now and then is no quicker for it.
    pub idle: Option<Duration>,
    /// Time that a session may take. 24 hours by default.
    pub total: Duration,
    /// Bytes that a session may send and fetch, headers included. Unlimited by default. A run of
    /// pages that would pass the limit is refused at its header.
    pub bytes: u64,
    /// Objects that a session may begin. 262,144 by default: more than twice the tasks of the
    /// largest known dumps. Each object makes two files.
    pub objects: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            per_peer: 32,
            waiting: 512,
            first: Duration::from_secs(30),
            idle: Some(Duration::from_secs(60)),
            total: Duration::from_secs(24 * 60 * 60),
            bytes: u64::MAX,
            objects: 1 << 18,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_defaults_are_these() {
        let limits = ServerLimits::default();
        // Without a rest: a new field needs a row.
        let ServerLimits { connections, per_peer, waiting, first, idle, total, bytes, objects } =
            limits;
        let seconds = |time: Duration| format!("{} s", time.as_secs());
        let none = |bytes: u64| if bytes == u64::MAX { "none".into() } else { bytes.to_string() };
        let rows = [
            ("connections", connections.to_string()),
            ("per_peer", per_peer.to_string()),
            ("waiting", waiting.to_string()),
            ("first", seconds(first)),
            ("idle", idle.map_or_else(|| "none".into(), seconds)),
            ("total", seconds(total)),
            ("bytes", none(bytes)),
            ("objects", objects.to_string()),
        ];
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/limits.md");
        let text = std::fs::read_to_string(file).unwrap();
        for (field, default) in rows {
            let row = format!("| `{field}` | {default} | ");
            assert!(text.contains(&row), "docs/limits.md should have {row}");
        }
    }
}
