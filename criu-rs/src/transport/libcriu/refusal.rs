//! Refusals: reasons why libcriu is not asked.

/// The reason why libcriu is not asked.
pub(super) type Refusal = String;
