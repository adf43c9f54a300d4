//! A browser without a window, which opens reports. All tests share it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use flate2::read::ZlibDecoder;
use serde_json::{Value, json};

use crate::common::scratch;

/// A page after its script has run.
pub(crate) struct Page {
    /// Title of the page, as HTML.
    pub(crate) title: String,
    /// The drawn part of the page, as HTML: the body without data and script.
    pub(crate) dom: String,
    /// Lines of the browser's console.
    pub(crate) console: Vec<String>,
}

impl Page {
    /// Opens a report. `hash` is the end of the address: `#q=nginx`.
    pub(crate) fn open(directory: &Path, html: &str, hash: &str) -> Self {
        let [page] = Self::follow(directory, html, [hash]);
        page
    }

    /// Opens a report, and follows links in it. The first page is loaded with its hash.
    pub(crate) fn follow<const N: usize>(
        directory: &Path,
        html: &str,
        hashes: [&str; N],
    ) -> [Self; N] {
        let mut browser = shared();
        let browser = browser.get_or_insert_with(Browser::start);
        let mut tab = Tab::new(browser, WIDTH, "light");
        tab.load(directory, html, hashes[0]);
        let mut is_first = true;
        let pages = hashes.map(|hash| {
            if !std::mem::take(&mut is_first) {
                tab.go(hash);
            }
            tab.page()
        });
        tab.close();
        pages
    }

    /// Opens a report in a window so wide, and returns the result of a script, too.
    pub(crate) fn with_script(
        directory: &Path,
        html: &str,
        width: u32,
        script: &str,
    ) -> (Self, String) {
        let mut browser = shared();
        let browser = browser.get_or_insert_with(Browser::start);
        let mut tab = Tab::new(browser, width, "light");
        tab.load(directory, html, "");
        let result = tab.evaluate(&format!("(() => {{ {script} }})()"));
        let page = tab.page();
        tab.close();
        (page, result.as_str().unwrap().to_owned())
    }

    /// Counts in the links to the sections, by their names: "12/2,000" with a filter.
    pub(crate) fn count(&self, section: &str) -> &str {
        let link = self.between(&format!("<a href=\"#{section}\""), "</a>");
        link.split_once("<span class=\"number").map_or("", |(_, count)| {
            let count = count.split_once('>').unwrap().1;
            count.split_once('<').unwrap().0
        })
    }

    /// Text of the page between two marks.
    pub(crate) fn between(&self, start: &str, end: &str) -> &str {
        let (_, rest) = self.dom.split_once(start).unwrap_or_else(|| panic!("no {start}"));
        rest.split_once(end).unwrap().0
    }
}

/// Colour of the pixel at the top left: red, green, blue. `scheme` is the system's: light or dark.
pub(crate) fn corner(directory: &Path, html: &str, hash: &str, scheme: &str) -> [u8; 3] {
    let mut browser = shared();
    let browser = browser.get_or_insert_with(Browser::start);
    let mut tab = Tab::new(browser, WIDTH, scheme);
    tab.load(directory, html, hash);
    let clip = json!({"x": 0, "y": 0, "width": 8, "height": 8, "scale": 1});
    let shot = tab.call("Page.captureScreenshot", json!({"format": "png", "clip": clip}));
    tab.close();
    let png = BASE64_STANDARD.decode(shot["data"].as_str().unwrap()).unwrap();
    // Chunks of a length, a name, bytes and a checksum follow the magic.
    let (mut rest, mut packed) = (&png[8..], Vec::new());
    while let Some((len, tail)) = rest.split_first_chunk() {
        let (name, tail) = tail.split_at(4);
        let (bytes, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
        if name == b"IDAT" {
            packed.extend_from_slice(bytes);
        }
        rest = &tail[4..];
    }
    // Filters leave the first pixel of the first line as it is.
    let mut line = [0; 4];
    ZlibDecoder::new(&*packed).read_exact(&mut line).unwrap();
    [line[1], line[2], line[3]]
}

/// A page of the browser, with the messages about it.
struct Tab<'a> {
    browser: &'a mut Browser,
    target: String,
    session: String,
    console: Vec<String>,
    is_loaded: bool,
}

impl<'a> Tab<'a> {
    fn new(browser: &'a mut Browser, width: u32, scheme: &str) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut tab = Self {
            browser,
            target: String::new(),
            session: String::new(),
            console: Vec::new(),
            is_loaded: false,
        };
        let made = tab.call("Target.createTarget", json!({"url": "about:blank"}));
        tab.target = text(&made["targetId"]);
        let to = json!({"targetId": tab.target, "flatten": true});
        tab.session = text(&tab.call("Target.attachToTarget", to)["sessionId"]);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            tab.call(domain, json!({}));
        }
        let size = json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false});
        tab.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!([{"name": "prefers-color-scheme", "value": scheme}]);
        tab.call("Emulation.setEmulatedMedia", json!({"features": scheme}));
        tab
    }

    /// Opens a report, and waits for the end of its script and of what it loads.
    fn load(&mut self, directory: &Path, html: &str, hash: &str) {
        let file = directory.join("report.html");
        fs::write(&file, html).unwrap();
        self.is_loaded = false;
        let to = json!({"url": format!("file://{}{hash}", file.display())});
        let went = self.call("Page.navigate", to);
        assert!(went.get("errorText").is_none(), "{went}");
        while !self.is_loaded {
            let message = self.browser.receive();
            self.note(&message);
        }
        let ready = self.evaluate("String(document.documentElement.dataset.ready)");
        assert_eq!(ready, "true", "{:?}", self.console);
    }

    /// Follows a link in the page, and waits until the script has seen it.
    fn go(&mut self, hash: &str) {
        let script = format!(
            "new Promise((done) => {{
                addEventListener('hashchange', () => done('gone'), {{ once: true }});
                location.hash = {};
            }})",
            json!(hash)
        );
        assert_eq!(self.evaluate(&script), "gone");
    }

    fn page(&mut self) -> Page {
        let title = self.evaluate("document.querySelector('title').innerHTML");
        let dom = self.evaluate(DRAWN);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Page { title: text(&title), dom: text(&dom), console: self.console.clone() }
    }

    fn close(mut self) {
        self.session.clear();
        self.call("Target.closeTarget", json!({"targetId": self.target}));
    }

    fn evaluate(&mut self, script: &str) -> Value {
        let script = json!({"expression": script, "returnByValue": true, "awaitPromise": true});
        let mut result = self.call("Runtime.evaluate", script);
        assert!(result.get("exceptionDetails").is_none(), "{result}");
        result["result"]["value"].take()
    }

    /// Calls a method of the Chrome DevTools Protocol.
    fn call(&mut self, method: &str, words: Value) -> Value {
        let id = self.browser.send(&self.session, method, words);
        loop {
            let mut message = self.browser.receive();
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{method}: {message}");
                return message["result"].take();
            }
            self.note(&message);
        }
    }

    /// Takes note of what happened in the page.
    fn note(&mut self, message: &Value) {
        // Other tabs have been closed, and their last messages may come late.
        if self.session.is_empty() || message["sessionId"] != *self.session {
            return;
        }
        let words = &message["params"];
        match message["method"].as_str() {
            Some("Page.loadEventFired") => self.is_loaded = true,
            Some("Runtime.consoleAPICalled") => self.console.push(words["args"].to_string()),
            Some("Runtime.exceptionThrown") => {
                self.console.push(words["exceptionDetails"].to_string());
            }
            Some("Log.entryAdded") => self.console.push(words["entry"]["text"].to_string()),
            _ => {}
        }
    }
}

/// A running Chromium. It ends when the pipe to it is closed, at the end of the tests.
struct Browser {
    process: Child,
    from: BufReader<ChildStdout>,
    calls: u64,
}

impl Browser {
    fn start() -> Self {
        let profile = scratch("report-browser").join("profile");
        // Chromium reads its messages from descriptor 3, and writes them to descriptor 4.
        let mut process = Command::new("timeout")
            .args(["300", "sh", "-c", "exec \"$@\" 3<&0 4>&1 0</dev/null 1>&2", "sh", "chromium"])
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
            .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
            .args(["--disable-component-update", "--disable-dev-shm-usage"])
            .args(["--disable-extensions", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let from = BufReader::new(process.stdout.take().unwrap());
        Self { process, from, calls: 0 }
    }

    /// Sends a call, and returns the number that its answer will have.
    fn send(&mut self, session: &str, method: &str, words: Value) -> u64 {
        self.calls += 1;
        let mut message = json!({"id": self.calls, "method": method, "params": words});
        if !session.is_empty() {
            message["sessionId"] = session.into();
        }
        let mut bytes = message.to_string().into_bytes();
        bytes.push(0);
        let to = self.process.stdin.as_mut().unwrap();
        to.write_all(&bytes).expect("chromium, which `cargo xtask setup --tests` installs");
        self.calls
    }

    fn receive(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser has ended");
        serde_json::from_slice(&bytes).unwrap()
    }
}

/// Takes the browser of all tests. The first test starts it. A test that has failed leaves the
/// browser to the others.
fn shared() -> MutexGuard<'static, Option<Browser>> {
    static SHARED: Mutex<Option<Browser>> = Mutex::new(None);
    SHARED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Width of a window, in pixels.
const WIDTH: u32 = 1280;

/// The body up to the data.
const DRAWN: &str = "
    (() => {
        const nodes = [...document.body.childNodes];
        const drawn = nodes.slice(0, nodes.findIndex((node) => node.id === 'data'));
        return drawn.map((node) => node.outerHTML ?? node.textContent).join('');
    })()";
