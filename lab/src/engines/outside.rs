//! A client and an engine of the container runtime interface that are not this project's: Python's
//! grpcio, which `cargo xtask setup --tests` installs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

use crate::place::python;

/// A client that stays connected. It ends when the value is dropped.
#[derive(Debug)]
pub struct Outside {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    next: u64,
    /// Answers that somebody else than the one who waits is to get.
    kept: BTreeMap<u64, Value>,
}

/// A call, as the client is asked for it.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Seconds until the client gives up.
    pub timeout: Option<f64>,
    /// Answers to wait for, of a method that has many.
    pub count: Option<u64>,
    /// Metadata of the call.
    pub metadata: Vec<(String, String)>,
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome(Value);

impl Outside {
    /// A client of the engine or the proxy at a socket. It connects with its first call.
    pub fn new(socket: &Path) -> Self {
        let mut command = script("client.py");
        command.arg(socket).arg("lines").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, from) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or_else(|_| json!({"text": line}));
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let to = child.stdin.take().unwrap();
        Self { child, to, from, next: 0, kept: BTreeMap::new() }
    }

    /// Calls a method, such as `ListContainers`, with a request as protobuf has it in JSON.
    #[track_caller]
    pub fn call(&mut self, method: &str, request: Value) -> Outcome {
        self.ask(method, request, &Asked::default())
    }

    /// Calls a method with properties.
    #[track_caller]
    pub fn ask(&mut self, method: &str, request: Value, asked: &Asked) -> Outcome {
        let id = self.send(method, request, asked, false);
        self.wait(id)
    }

    /// Begins a call. Returns its number.
    pub fn begin(&mut self, method: &str, request: Value, asked: &Asked) -> u64 {
        self.send(method, request, asked, true)
    }

    fn send(&mut self, method: &str, request: Value, asked: &Asked, later: bool) -> u64 {
        let id = self.next;
        self.next += 1;
        self.line(&json!({
            "id": id, "method": method, "request": request, "later": later,
            "timeout": asked.timeout, "count": asked.count, "metadata": asked.metadata,
        }));
        id
    }

    /// Cancels a call that was begun.
    pub fn cancel(&mut self, id: u64) {
        let own = self.next;
        self.next += 1;
        self.line(&json!({"id": own, "cancel": id}));
        self.wait(own);
    }

    /// Waits for a call to end.
    ///
    /// # Panics
    /// Panics if the call does not end in a minute.
    #[track_caller]
    pub fn wait(&mut self, id: u64) -> Outcome {
        if let Some(kept) = self.kept.remove(&id) {
            return Outcome(kept);
        }
        loop {
            let answer = self.from.recv_timeout(LIMIT).expect("an answer to a call");
            match answer["id"].as_u64() {
                Some(of) if of == id => return Outcome(answer),
                Some(of) => drop(self.kept.insert(of, answer)),
                None => panic!("the client said {answer}"),
            }
        }
    }

    fn line(&mut self, line: &Value) {
        writeln!(self.to, "{line}").unwrap();
        self.to.flush().unwrap();
    }

    /// The process id of the client.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Outcome {
    /// The code, such as `OK` or `NOT_FOUND`.
    pub fn code(&self) -> &str {
        self.0["code"].as_str().unwrap_or_default()
    }

    /// The text of a refusal.
    pub fn text(&self) -> &str {
        self.0["text"].as_str().unwrap_or_default()
    }

    /// The answer of a call that succeeded.
    ///
    /// # Panics
    /// Panics if the call was refused.
    #[track_caller]
    pub fn done(&self) -> &Value {
        assert_eq!(self.code(), "OK", "{}", self.text());
        &self.0["answer"]
    }

    /// The answers of a method that has many.
    pub fn answers(&self) -> &[Value] {
        self.0["answers"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The bytes of the answers in base64.
    pub fn bytes(&self) -> &Value {
        &self.0["bytes"]
    }

    /// Everything that came: code, text, bytes, metadata, trailers.
    pub fn all(&self) -> Value {
        let mut all = self.0.clone();
        all["id"].take();
        all
    }
}

/// Calls a method by a client of its own. The outcome of `client.py` is a line of JSON.
pub fn client(socket: &Path, words: &[&str]) -> Command {
    let mut command = script("client.py");
    command.arg(socket).args(words);
    command
}

/// An engine of grpcio. It ends when the value is dropped.
#[derive(Debug)]
pub struct OutsideEngine {
    child: Child,
    socket: PathBuf,
}

impl OutsideEngine {
    /// Starts the engine at a socket, and waits until it listens.
    ///
    /// # Panics
    /// Panics if the engine does not start.
    pub fn start(socket: &Path) -> Self {
        let mut command = script("engine.py");
        command.arg(socket).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self { child, socket: socket.to_owned() }
    }

    /// The process id of the engine.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the engine as `kill -9` does.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Drop for OutsideEngine {
    fn drop(&mut self) {
        self.end();
    }
}

/// The command of a script of `lab/python`.
fn script(name: &str) -> Command {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(name);
    let mut command = Command::new(python());
    command.arg(path).env("PYTHONDONTWRITEBYTECODE", "1");
    // Forks of the test program must not hold locks of gRPC.
    command.env("GRPC_ENABLE_FORK_SUPPORT", "0").env("GRPC_VERBOSITY", "NONE");
    command
}

/// The longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(60);
