//! Debug output without values that may be secret.

use std::fmt;

/// Names of fields whose values may be secret: passwords in the environment of a container, in its
/// arguments and in annotations. Shows each with `_` as its value.
pub(super) struct Names<I>(pub(super) I);

impl<I: IntoIterator<Item = N> + Clone, N: fmt::Debug> fmt::Debug for Names<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.clone().into_iter();
        f.debug_map().entries(names.map(|name| (name, format_args!("_")))).finish()
    }
}
