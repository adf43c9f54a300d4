//! Rules that say which checkpoints stay.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use std::{fmt, fs, io};

use super::stored::Stored;

/// Checkpoints for which a rule counts together.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Scope {
    /// The checkpoints of one container.
    Container,
    /// The checkpoints of one pod, by its name.
    Pod,
    /// The checkpoints of one namespace.
    Namespace,
    /// All checkpoints.
    All,
}

impl Scope {
    /// Every scope, from the smallest to the largest.
    pub const ALL: [Self; 4] = [Self::Container, Self::Pod, Self::Namespace, Self::All];

    /// Returns the word for the scope.
    pub fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Pod => "pod",
            Self::Namespace => "namespace",
            Self::All => "all",
        }
    }

    /// Returns the names that checkpoints of the same group share.
    pub(super) fn key(self, of: &Stored) -> [&str; 3] {
        let container = &of.container;
        let names = [container.namespace(), container.pod(), container.name()];
        match self {
            Self::Container => names,
            Self::Pod => [names[0], names[1], ""],
            Self::Namespace => [names[0], "", ""],
            Self::All => [""; 3],
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Rules for the checkpoints of a directory. Without a rule all of them stay.
#[derive(Clone, Debug)]
pub struct Rules {
    pub(super) counts: Vec<(Scope, usize)>,
    pub(super) totals: Vec<(Scope, u64)>,
    pub(super) age: Option<Duration>,
    pub(super) size: Option<u64>,
    pub(super) live: Option<BTreeSet<String>>,
    pub(super) young: Duration,
    pub(super) namespace: Option<String>,
    pub(super) pod: Option<String>,
    pub(super) container: Option<String>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            counts: Vec::new(),
            totals: Vec::new(),
            age: None,
            size: None,
            live: None,
            young: YOUNG,
            namespace: None,
            pod: None,
            container: None,
        }
    }
}

impl Rules {
    /// Keeps so many of each container, pod or namespace: the newest.
    #[must_use]
    pub fn keep(mut self, scope: Scope, most: usize) -> Self {
        self.counts.push((scope, most));
        self
    }

    /// Keeps so many bytes of each container, pod or namespace. The oldest checkpoints go until the
    /// others are not larger.
    #[must_use]
    pub fn max_total(mut self, scope: Scope, bytes: u64) -> Self {
        self.totals.push((scope, bytes));
        self
    }

    /// Keeps checkpoints that are not older.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.age = Some(age);
        self
    }

    /// Keeps checkpoints that are not larger, in bytes.
    #[must_use]
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// Keeps checkpoints of these pods, by their identifiers, and those that name none.
    /// [`live_pods`] reads the pods of a node.
    #[must_use]
    pub fn of_live_pods(mut self, identifiers: BTreeSet<String>) -> Self {
        self.live = Some(identifiers);
        self
    }

    /// Leaves files that were changed in the last so many seconds, which a runtime may be writing.
    /// By default 5 minutes.
    #[must_use]
    pub fn young(mut self, time: Duration) -> Self {
        self.young = time;
        self
    }

    /// Applies the rules to checkpoints of one namespace alone. All others stay, and do not count.
    #[must_use]
    pub fn of_namespace(mut self, name: impl Into<String>) -> Self {
        self.namespace = Some(name.into());
        self
    }

    /// Applies the rules to checkpoints of pods of one name alone.
    #[must_use]
    pub fn of_pod(mut self, name: impl Into<String>) -> Self {
        self.pod = Some(name.into());
        self
    }

    /// Applies the rules to checkpoints of containers of one name alone.
    #[must_use]
    pub fn of_container(mut self, name: impl Into<String>) -> Self {
        self.container = Some(name.into());
        self
    }

    /// Returns true if there is no rule by which a checkpoint could go.
    pub fn is_empty(&self) -> bool {
        let has_limit = self.age.is_some() || self.size.is_some() || self.live.is_some();
        self.counts.is_empty() && self.totals.is_empty() && !has_limit
    }

    /// Tells if the rules are for a checkpoint.
    pub(super) fn are_for(&self, of: &Stored) -> bool {
        let fits = |wanted: &Option<String>, name: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == name)
        };
        fits(&self.namespace, of.container.namespace())
            && fits(&self.pod, of.container.pod())
            && fits(&self.container, of.container.name())
    }
}

/// Returns the identifiers of the pods of this node: the names in [`PODS`](super::PODS).
///
/// # Errors
/// The directory cannot be read, or has no pod. A kubelet that has lost its pods would make every
/// checkpoint one without a pod.
pub fn live_pods(directory: impl AsRef<Path>) -> io::Result<BTreeSet<String>> {
    let mut pods = BTreeSet::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            pods.extend(entry.file_name().into_string());
        }
    }
    if pods.is_empty() {
        return Err(io::Error::other("has no pod: is this a node, and the kubelet's directory?"));
    }
    Ok(pods)
}

/// The time in which a file counts as young.
const YOUNG: Duration = Duration::from_secs(300);
