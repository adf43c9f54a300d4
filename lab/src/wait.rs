//! Waiting for what other processes do.

use std::time::{Duration, Instant};

/// Returns true once `check` does, or false after 15 seconds, which a busy machine may need.
pub fn soon(check: impl FnMut() -> bool) -> bool {
    within(Duration::from_secs(15), check)
}

/// Returns true once `check` does, or false when `time` is up. Checks at least once.
pub fn within(time: Duration, mut check: impl FnMut() -> bool) -> bool {
    let limit = Instant::now() + time;
    loop {
        if check() {
            return true;
        }
        if Instant::now() > limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
