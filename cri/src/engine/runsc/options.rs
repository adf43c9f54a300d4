//! Options of `runsc checkpoint` and `runsc restore`.

use crate::engine::options::{EngineOption, Options, Phase, Values};

/// The options. runsc has them under the same names.
pub(super) const ALL: &[EngineOption] = &[
    EngineOption {
        name: "compression",
        values: Values::Words(&["none", "flate-best-speed"]),
        on: &[Phase::Checkpoint],
        help: "compresses the checkpoint; with `none`, memory is in a file of its own",
    },
    EngineOption {
        name: "direct",
        values: Values::Switch,
        on: &[Phase::Checkpoint, Phase::Restore],
        help: "reads and writes the pages past the machine's cache",
    },
    EngineOption {
        name: "exclude-committed-zero-pages",
        values: Values::Switch,
        on: &[Phase::Checkpoint],
        help: "leaves out pages of zeros",
    },
];

/// Returns the options as `runsc` has them.
pub(super) fn arguments(options: &Options) -> Vec<String> {
    options.iter().map(|(name, value)| format!("--{name}={value}")).collect()
}
