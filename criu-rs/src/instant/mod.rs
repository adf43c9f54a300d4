//! Instant captures: dumps whose memory is read from forked holders, while the tasks run on.
