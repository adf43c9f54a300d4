//! Reading ahead by a thread.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;

/// A stream that a thread of its own reads ahead, by a few pieces. An error comes behind the bytes
/// that were read before it. The thread ends with the stream, or when the value is dropped and the
/// stream gives or refuses its next bytes.
#[derive(Debug)]
pub(super) struct Ahead {
    pieces: Receiver<Piece>,
    /// Buffers to fill again.
    spent: Sender<Vec<u8>>,
    piece: Vec<u8>,
    used: usize,
    /// The end that follows the piece, if it is the last one.
    end: Option<io::Result<()>>,
}

/// Bytes, and the end of the stream if these are the last.
type Piece = (Vec<u8>, Option<io::Result<()>>);

impl Ahead {
    /// Starts to read.
    ///
    /// # Errors
    /// Fails if the system starts no thread.
    pub(super) fn new(stream: impl Read + Send + 'static) -> io::Result<Self> {
        let (to, pieces) = sync_channel(PIECES);
        let (spent, buffers) = channel();
        let thread = thread::Builder::new().name("unpack".to_owned());
        thread.spawn(move || read(stream, &buffers, &to))?;
        Ok(Self { pieces, spent, piece: Vec::new(), used: 0, end: None })
    }

    /// Takes the next piece. Without one, the thread has panicked.
    fn next(&mut self) {
        let broken = || (Vec::new(), Some(Err(io::Error::other("reading the stream panicked"))));
        let (piece, end) = self.pieces.recv().unwrap_or_else(|_| broken());
        // The thread may have ended.
        let _ = self.spent.send(std::mem::replace(&mut self.piece, piece));
        self.used = 0;
        self.end = end;
    }
}

impl Read for Ahead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.used == self.piece.len() {
            match &mut self.end {
                None => self.next(),
                Some(end) => return std::mem::replace(end, Ok(())).map(|()| 0),
            }
        }
        let ready = self.piece.get(self.used..).unwrap_or_default();
        let len = ready.len().min(buf.len());
        let (ready, buf) = (ready.get(..len), buf.get_mut(..len));
        if let (Some(ready), Some(buf)) = (ready, buf) {
            buf.copy_from_slice(ready);
        }
        self.used += len;
        Ok(len)
    }
}

/// Reads pieces until the stream ends, or nobody takes them.
fn read(mut stream: impl Read, buffers: &Receiver<Vec<u8>>, to: &SyncSender<Piece>) {
    loop {
        let mut piece = buffers.try_recv().unwrap_or_default();
        piece.resize(PIECE, 0);
        let (len, end) = fill(&mut stream, &mut piece);
        piece.truncate(len);
        let is_last = end.is_some();
        if to.send((piece, end)).is_err() || is_last {
            return;
        }
    }
}

/// Fills a buffer. Returns how much is filled, and the end if it was met.
fn fill(stream: &mut impl Read, buf: &mut [u8]) -> (usize, Option<io::Result<()>>) {
    let mut len = 0;
    while let Some(rest) = buf.get_mut(len..).filter(|rest| !rest.is_empty()) {
        match stream.read(rest) {
            Ok(0) => return (len, Some(Ok(()))),
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (len, Some(Err(error))),
        }
    }
    (len, None)
}

/// Pieces that wait for their reader.
const PIECES: usize = 4;

/// Bytes of a piece. A processor's cache holds several.
const PIECE: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn bytes_come_in_order_and_the_error_behind_them() {
        struct Fails;
        impl Read for Fails {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::new(io::ErrorKind::InvalidData, "damaged"))
            }
        }
        let bytes: Vec<u8> = (0..=250).cycle().take(3 * PIECE + 5).collect();
        let mut read = Vec::new();
        let stream = Cursor::new(bytes.clone()).chain(Fails);
        let error = Ahead::new(stream).unwrap().read_to_end(&mut read).unwrap_err();
        assert_eq!(error.to_string(), "damaged");
        assert!(read == bytes);
        let mut whole = Ahead::new(Cursor::new(bytes.clone())).unwrap();
        read.clear();
        assert_eq!(whole.read_to_end(&mut read).unwrap(), bytes.len());
        assert!(read == bytes);
        assert_eq!(whole.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_panic_of_the_stream_is_an_error() {
        struct Panics;
        impl Read for Panics {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("on purpose")
            }
        }
        let error = Ahead::new(Panics).unwrap().read(&mut [0]).unwrap_err();
        assert_eq!(error.to_string(), "reading the stream panicked");
    }
}
