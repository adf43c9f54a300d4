//! Options of an instant dump.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use criu_rs::instant::{Budget, Headroom, InstantOptions, SeriesOptions};

use crate::options::values::{AtMost, memory, seconds};

/// The heading of these options in help.
pub(crate) const HEADING: &str = "Instant dump";

/// The options that exclude an instant dump: other ways of the memory, and a directory of plugins
/// in the place of which an instant dump makes its own.
const NOT_WITH: &[&str] = &[
    "capture",
    "compress",
    "compress_acceleration",
    "compress_block",
    "lazy_pages",
    "libdir",
    "ps_socket",
    "relay",
    "status_fd",
    "stream",
    "track_mem",
];

/// The time between two rounds of a series.
const EVERY: Duration = Duration::from_secs(60);

/// Options of an instant dump, on `dump`.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = HEADING)]
#[command(mut_arg("verify", |verify| verify.conflicts_with("page_server")))]
pub(crate) struct InstantDump {
    /// Stop the tasks for the shortest time: fork each of them, let them run on, and read their
    /// memory from the forks. While that lasts, each page that a task writes takes memory once more
    #[arg(long, conflicts_with_all = NOT_WITH)]
    instant: bool,
    /// Make this many checkpoints, or unlimited: into the directories 0, 1, 2 and so on below the
    /// images directory. Each holds only what has changed since the one before, and needs it
    #[arg(
        long,
        value_name = "NUMBER",
        requires = "instant",
        conflicts_with_all = ["coordinator", "page_server", "prev_images_dir"]
    )]
    rounds: Option<AtMost>,
    /// The seconds from the start of one checkpoint to the next; 60 unless given
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "rounds")]
    every: Option<Duration>,
    /// The most memory that forks may take between two checkpoints, with K, M or G; half of what
    /// they hold unless given. When they need more, they end, and the next checkpoint is whole
    #[arg(long, value_name = "SIZE", value_parser = memory, requires = "rounds")]
    instant_budget: Option<usize>,
    #[command(flatten)]
    how: InstantOnly,
}

/// The options that exclude a pre-dump that is an instant one.
const NOT_WITH_KEEPER: &[&str] = &[
    "auto_dedup",
    "compress",
    "compress_acceleration",
    "compress_block",
    "libdir",
    "page_server",
    "pre_dump_mode",
    "ps_socket",
    "relay",
    "track_mem",
];

/// The time for which forks are kept.
const KEEP: Duration = Duration::from_secs(600);

/// Options of an instant pre-dump.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = HEADING)]
pub(crate) struct InstantPreDump {
    /// Stop the tasks for the shortest time: fork each of them, let them run on, and read their
    /// memory from the forks. This program keeps the forks in the background, for the next round.
    /// The kernel need not track changed memory
    #[arg(long, conflicts_with_all = NOT_WITH_KEEPER)]
    instant: bool,
    /// The seconds for which the forks are kept, if no next round comes; 600 unless given
    #[arg(long, value_name = "SECONDS", value_parser = seconds, requires = "instant")]
    keep: Option<Duration>,
    /// The most memory that forks may take until the next round, with K, M or G; half of what they
    /// hold unless given. When they need more, they end, and the next round is refused
    #[arg(long, value_name = "SIZE", value_parser = memory, requires = "instant")]
    instant_budget: Option<usize>,
    #[command(flatten)]
    how: InstantOnly,
    /// This process keeps the forks, and has the one in the foreground on standard input
    #[arg(long, hide = true, requires = "instant")]
    keeper: bool,
}

impl InstantPreDump {
    /// Returns the options for the library, if an instant pre-dump is asked for.
    pub(crate) fn given(&self) -> Option<SeriesOptions> {
        let budget = budget(self.instant_budget);
        self.instant.then(|| SeriesOptions::new().instant(self.how.options()).budget(budget))
    }

    /// Tells if this process is to keep the forks.
    pub(crate) fn is_keeper(&self) -> bool {
        self.keeper
    }

    /// Returns the time for which the forks are kept.
    pub(crate) fn keep(&self) -> Duration {
        self.keep.unwrap_or(KEEP)
    }
}

/// Returns a budget, or the default one.
fn budget(bytes: Option<usize>) -> Budget {
    let bytes = bytes.map(|bytes| Budget::new().percent(100).bytes(bytes as u64));
    bytes.unwrap_or_default()
}

/// A series of checkpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    number: AtMost,
    /// The time from the start of one to the start of the next.
    pub(crate) every: Duration,
    /// The memory that forks may take in between.
    pub(crate) budget: Budget,
}

impl Rounds {
    /// Tells if the rounds end when somebody stops them, and not by themselves.
    pub(crate) fn are_unlimited(&self) -> bool {
        self.number.0.is_none()
    }

    /// Tells if a round is the last. The first is number 0.
    pub(crate) fn is_last(&self, round: u64) -> bool {
        self.number.0.is_some_and(|number| round.saturating_add(1) >= number.get())
    }
}

/// Options that say how an instant dump is made.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = HEADING)]
pub(crate) struct InstantOnly {
    /// The plugin that CRIU loads; libcriu_plugin.so beside this program, in /usr/lib/criu-rs or in
    /// /usr/local/lib/criu-rs unless given
    #[arg(long, value_name = "FILE", requires = "instant")]
    instant_plugin: Option<PathBuf>,
    /// Fork the tasks that have at least this much private memory, with K, M or G; unless given,
    /// 16M, and 32K for each mapping. Other tasks stand still while their memory is read
    #[arg(long, value_name = "SIZE", value_parser = memory, requires = "instant")]
    instant_least: Option<usize>,
    /// Fork tasks even if memory may run out. By default they stand still while their memory is
    /// read
    #[arg(long, requires = "instant")]
    accept_low_memory: bool,
    /// Compare every page in the images with the fork once more
    #[arg(long, requires = "instant")]
    verify: bool,
}

impl InstantDump {
    /// Returns the options for the library, if an instant dump is asked for.
    pub(crate) fn given(&self) -> Option<InstantOptions> {
        self.instant.then(|| self.how.options())
    }

    /// Returns the series, if one is asked for.
    pub(crate) fn rounds(&self) -> Option<Rounds> {
        let budget = budget(self.instant_budget);
        let every = self.every.unwrap_or(EVERY);
        self.rounds.map(|number| Rounds { number, every, budget })
    }
}

impl InstantOnly {
    /// Returns the options for the library.
    pub(crate) fn options(&self) -> InstantOptions {
        let mut options = InstantOptions::new().verify(self.verify);
        if let Some(plugin) = &self.instant_plugin {
            options = options.plugin(plugin);
        }
        if let Some(bytes) = self.instant_least {
            options = options.least(bytes as u64).least_per_mapping(0);
        }
        if self.accept_low_memory {
            options = options.headroom(Headroom::Accept);
        }
        options
    }
}
