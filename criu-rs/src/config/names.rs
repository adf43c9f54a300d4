//! The names of CRIU's options, and the values that they take.

/// An option of CRIU's command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) long: &'static str,
    pub(super) takes: Takes,
}

/// The value that an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Takes {
    /// No value.
    Nothing,
    /// No value, and `no-` before the name undoes the option.
    Switch,
    /// A value, in the next word or after `=`.
    Value,
    /// A value after `=`, or none.
    Perhaps,
}

/// Returns the long name that a letter stands for, with the value that it takes.
pub(super) fn of_letter(letter: u8) -> Option<&'static Name> {
    let (_, long) = LETTERS.iter().find(|(known, _)| *known == letter)?;
    NAMES.iter().find(|name| name.long == *long)
}

/// Letters that a configuration file can hold: in the place of a value that an option does not
/// take.
const LETTERS: &[(u8, &str)] = &[
    (b'd', "restore-detached"),
    (b'S', "restore-sibling"),
    (b's', "leave-stopped"),
    (b'R', "leave-running"),
    (b't', "tree"),
    (b'h', "help"),
    (b'D', "images-dir"),
    (b'o', "log-file"),
    (b'v', "verbosity"),
    (b'x', "ext-unix-sk"),
    (b'V', "version"),
    (b'r', "root"),
    (b'j', "shell-job"),
    (b'J', "join-ns"),
    (b'l', "file-locks"),
    (b'W', "work-dir"),
    (b'L', "libdir"),
    (b'M', "ext-mount-map"),
    (b'c', "compress"),
];

macro_rules! names {
    ($($takes:ident: $($long:literal)*;)*) => {
        /// All options up to CRIU 4.3.
        pub(super) const NAMES: &[Name] =
            &[$($(Name { long: $long, takes: Takes::$takes },)*)*];
    };
}

names! {
    Nothing:
        "leave-stopped" "leave-running" "help" "version" "ms" "exec-cmd" "lazy-pages" "all"
        "enable-external-sharing" "enable-external-masters" "tls-no-cn-verify"
        "no-default-config" "compress";
    Switch:
        "restore-detached" "restore-sibling" "daemon" "tcp-established" "log-pid"
        "evasive-devices" "link-remap" "shell-job" "file-locks" "page-server" "track-mem"
        "auto-dedup" "force-irmap" "extra" "experimental" "skip-in-flight" "deprecated"
        "display-stats" "weak-sysctls" "tcp-close" "stream" "tls" "skip-file-rwx-check"
        "mntns-compat-mode" "unprivileged" "ghost-fiemap" "allow-uprobes";
    Perhaps: "ext-unix-sk" "cpu-cap" "manage-cgroups" "verbosity";
    Value:
        "tree" "images-dir" "work-dir" "log-file" "join-ns" "root" "close" "pidfile" "veth-pair"
        "action-script" "address" "port" "prev-images-dir" "libdir" "ext-mount-map"
        "cgroup-root" "inherit-fd" "feature" "skip-mnt" "enable-fs" "freeze-cgroup"
        "ghost-limit" "irmap-scan-path" "lsm-profile" "timeout" "external" "empty-ns"
        "cgroup-props" "cgroup-props-file" "cgroup-dump-controller" "status-fd" "config"
        "ps-socket" "tls-cacert" "tls-cacrl" "tls-cert" "tls-key" "cgroup-yard" "pre-dump-mode"
        "file-validation" "lsm-mount-context" "network-lock" "compress-acceleration"
        "compress-block" "decompress-threads" "image-io-mode" "plugin-option";
}
