//! Requests that libcriu is not asked for.

/// Why libcriu is not asked.
pub(super) type Refusal = String;
