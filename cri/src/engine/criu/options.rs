//! CRIU's options that make sense for the containers of a pod.

use criu_rs::oci::{ContainerDump, ContainerRestore};
use criu_rs::{Compression, NetworkLock, Tcp};

use crate::engine::options::{EngineOption, Options, Phase, Values};

/// The options. Others of CRIU's would let a container see the machine, or are set by the engine.
pub(super) const ALL: &[EngineOption] = &[
    EngineOption {
        name: TCP,
        values: Values::Words(&[ESTABLISHED, CLOSE]),
        on: BOTH,
        help: "keeps TCP connections, or closes them in the restored containers; by default a \
               checkpoint of a container with connections is refused",
    },
    EngineOption {
        name: "tcp-skip-in-flight",
        values: Values::Switch,
        on: SAVE,
        help: "leaves out connections that are not accepted yet",
    },
    EngineOption {
        name: "network-lock",
        values: Values::Words(&["iptables", "nftables", "skip"]),
        on: SAVE,
        help: "the way packets of saved connections are kept away during a checkpoint",
    },
    EngineOption {
        name: "file-locks",
        values: Values::Switch,
        on: BOTH,
        help: "keeps file locks; by default a checkpoint of a container that holds one is refused",
    },
    EngineOption {
        name: "ext-unix-sk",
        values: Values::Switch,
        on: BOTH,
        help: "accepts unix sockets whose peer is outside of the container",
    },
    EngineOption {
        name: "link-remap",
        values: Values::Switch,
        on: BOTH,
        help: "makes names for unlinked files that have other links",
    },
    EngineOption {
        name: "ghost-limit",
        values: Values::Number,
        on: SAVE,
        help: "largest unlinked file that is saved, in bytes; CRIU's limit is 1 MiB",
    },
    EngineOption {
        name: COMPRESSION,
        values: Values::Words(&["none", LZ4]),
        on: SAVE,
        help: "compresses memory; needs CRIU 4.3 that was built with LZ4",
    },
    EngineOption {
        name: LAZY_MARKS,
        values: Values::Switch,
        on: SAVE,
        help: "marks the memory that a lazy restore may bring later, where CRIU has not marked it",
    },
    #[cfg(feature = "instant")]
    EngineOption {
        name: INSTANT,
        values: Values::Switch,
        on: SAVE,
        help: "forks the containers and lets them run on while their memory is read from the forks; \
               each page that they write meanwhile takes memory once more",
    },
];

/// Sets the options of a checkpoint.
pub(super) fn on_dump<'a>(mut dump: ContainerDump<'a>, options: &Options) -> ContainerDump<'a> {
    if let Some(tcp) = tcp(options) {
        dump = dump.tcp(tcp);
    }
    if let Some(lock) = options.get("network-lock") {
        dump = dump.network_lock(match lock {
            "nftables" => NetworkLock::Nftables,
            "skip" => NetworkLock::Skip,
            _ => NetworkLock::Iptables,
        });
    }
    if let Some(bytes) = options.number("ghost-limit") {
        dump = dump.ghost_limit(bytes);
    }
    if options.get(COMPRESSION) == Some(LZ4) {
        dump = dump.compress(Compression::new());
    }
    if options.is_on("tcp-skip-in-flight") {
        dump = dump.tcp_skip_in_flight(true);
    }
    if options.is_on("file-locks") {
        dump = dump.file_locks(true);
    }
    if options.is_on("ext-unix-sk") {
        dump = dump.ext_unix_sk(true);
    }
    if options.is_on("link-remap") {
        dump = dump.link_remap(true);
    }
    dump
}

/// Sets the options of a restore.
pub(super) fn on_restore<'a>(
    mut restore: ContainerRestore<'a>,
    options: &Options,
) -> ContainerRestore<'a> {
    if let Some(tcp) = tcp(options) {
        restore = restore.tcp(tcp);
    }
    if options.is_on("file-locks") {
        restore = restore.file_locks(true);
    }
    if options.is_on("ext-unix-sk") {
        restore = restore.ext_unix_sk(true);
    }
    if options.is_on("link-remap") {
        restore = restore.link_remap(true);
    }
    restore
}

/// Returns the options of a checkpoint as `criu` has them.
pub(super) fn arguments(options: &Options) -> Vec<String> {
    let words = options.iter().filter_map(|(name, value)| match (name, value) {
        (TCP, ESTABLISHED) => Some("--tcp-established".into()),
        (TCP, _) => Some("--tcp-close".into()),
        (COMPRESSION, LZ4) => Some("--compress".into()),
        (COMPRESSION | LAZY_MARKS | INSTANT, _) | (_, "false") => None,
        (name, "true") => Some(format!("--{name}")),
        (name, value) => Some(format!("--{name}={value}")),
    });
    words.collect()
}

/// Returns the features of `criu` that a restore of the checkpoint needs.
pub(super) fn features(options: &Options) -> Vec<String> {
    let is_compressed = options.get(COMPRESSION) == Some(LZ4);
    is_compressed.then(|| "mem_compression".into()).into_iter().collect()
}

fn tcp(options: &Options) -> Option<Tcp> {
    match options.get(TCP)? {
        ESTABLISHED => Some(Tcp::Established),
        _ => Some(Tcp::Close),
    }
}

const TCP: &str = "tcp";

const ESTABLISHED: &str = "established";

const CLOSE: &str = "close";

/// The option that compresses memory.
pub(super) const COMPRESSION: &str = "compression";

/// A way to compress memory.
pub(super) const LZ4: &str = "lz4";

/// The option that marks memory for lazy restores.
pub(super) const LAZY_MARKS: &str = "lazy-marks";

/// The option that has the memory read while the containers run on.
pub(super) const INSTANT: &str = "instant";

const BOTH: &[Phase] = &[Phase::Checkpoint, Phase::Restore];

const SAVE: &[Phase] = &[Phase::Checkpoint];
