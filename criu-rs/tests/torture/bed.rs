//! Waiting.

use std::time::{Duration, Instant};

/// Whether something comes true within five seconds.
pub fn soon(check: impl FnMut() -> bool) -> bool {
    within(Duration::from_secs(5), check)
}

/// Whether something comes true in time.
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
