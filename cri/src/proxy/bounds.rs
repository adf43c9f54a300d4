//! The bounds of what clients and the engine can make a proxy spend.
//!
//! A stream that is not read holds at most its window and one frame. The window of the engine's
//! connection has room for all streams at once, so that clients that do not read hold up nobody.

/// Connections of clients at a time. The one that has been without a call for longest gives way to
/// a new one.
pub const CONNECTIONS: usize = 64;

/// Calls of one connection at a time. HTTP/2 clients know of it, and wait.
pub const CALLS_OF_CONNECTION: u32 = 256;

/// Calls of all connections at a time. A call beyond is refused with `RESOURCE_EXHAUSTED`.
pub const CALLS: usize = 1024;

/// Bytes of a stream that are taken in before they are passed on.
pub(super) const STREAM_WINDOW: u32 = 64 << 10;

/// Bytes of all streams of the engine: room for the windows of all calls.
pub(super) const ENGINE_CONNECTION_WINDOW: u32 = 1024 * STREAM_WINDOW;

/// Bytes of all requests of one client.
pub(super) const CLIENT_CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;

/// Bytes of a stream that wait to be written.
pub(super) const SEND_BUFFER: usize = 64 << 10;

/// Bytes of the headers or trailers of a call. The engines' clients take 8 KiB to 16 MiB; status
/// details are the largest.
pub(super) const HEADERS: u32 = 256 << 10;

const _: () = assert!(ENGINE_CONNECTION_WINDOW as usize == CALLS * STREAM_WINDOW as usize);
