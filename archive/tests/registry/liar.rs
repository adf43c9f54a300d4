//! A small server that answers what a test says.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// A request, as far as the tests look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    /// The first and the last byte of the range.
    pub(crate) range: Option<(usize, usize)>,
    pub(crate) login: Option<String>,
}

/// An answer: the status line and headers without lengths, and the bytes.
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) headers: String,
    pub(crate) body: Body,
}

pub(crate) enum Body {
    Bytes(Vec<u8>),
    /// Bytes, of which more are announced.
    Short(Vec<u8>, usize),
    /// No end.
    Endless,
}

/// A server on the loopback. It listens as long as the test program runs.
pub(crate) struct Liar {
    pub(crate) port: u16,
    pub(crate) asked: Arc<Mutex<Vec<Asked>>>,
}

impl Liar {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (all, answer) = (Arc::clone(&asked), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                thread::spawn(move || {
                    // A client that goes away is what some tests want.
                    let _ = serve(&stream, &all, &*answer);
                });
            }
        });
        Self { port, asked }
    }

    pub(crate) fn name(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}

fn serve(
    stream: &TcpStream,
    all: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked) -> Answer,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let mut words = first.split(' ').map(str::to_owned);
    let method = words.next().unwrap_or_default();
    if !matches!(&*method, "GET" | "HEAD" | "POST" | "PUT" | "PATCH") {
        // TLS.
        return Ok(());
    }
    let mut asked = Asked { method, path: words.next().unwrap_or_default(), ..Asked::default() };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else { break };
        match &*name.to_lowercase() {
            "authorization" => asked.login = Some(value.to_owned()),
            "range" => {
                let (start, end) = value["bytes=".len()..].split_once('-').unwrap();
                let end = end.parse().unwrap_or(usize::MAX);
                asked.range = Some((start.parse().unwrap(), end));
            }
            _ => {}
        }
    }
    all.lock().unwrap().push(asked.clone());
    let Answer { status, headers, body } = answer(&asked);
    let mut stream = stream;
    let length = match &body {
        Body::Bytes(bytes) => format!("content-length: {}\r\n", bytes.len()),
        Body::Short(_, announced) => format!("content-length: {announced}\r\n"),
        Body::Endless => String::new(),
    };
    write!(stream, "HTTP/1.1 {status}\r\n{headers}{length}connection: close\r\n\r\n")?;
    match body {
        _ if asked.method == "HEAD" => Ok(()),
        Body::Bytes(bytes) | Body::Short(bytes, _) => stream.write_all(&bytes),
        Body::Endless => loop {
            stream.write_all(&[b' '; 1 << 16])?;
        },
    }
}
