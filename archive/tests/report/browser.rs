//! A browser without a window, which opens a report.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use flate2::read::ZlibDecoder;

/// A page after its script has run.
pub(crate) struct Page {
    /// Title of the page, as HTML.
    pub(crate) title: String,
    /// What is drawn, as HTML: the body without data and script.
    pub(crate) dom: String,
    /// Lines of the browser's console.
    pub(crate) console: Vec<String>,
}

impl Page {
    /// Opens a report. `hash` is the end of the address: `#q=nginx`.
    pub(crate) fn open(directory: &Path, html: &str, hash: &str) -> Self {
        Self::of(run(directory, html, hash, &["--dump-dom"]))
    }

    fn of(output: Output) -> Self {
        let log = String::from_utf8_lossy(&output.stderr);
        let console = log.lines().filter(|line| line.contains(":CONSOLE"));
        let console = console.map(str::to_owned).collect();
        let document = String::from_utf8(output.stdout).unwrap();
        assert!(document.contains("data-ready=\"true\""), "{console:?} {document}");
        let (head, body) = document.split_once("<body").unwrap();
        let title = head.split_once("<title>").unwrap().1.split_once("</title>").unwrap().0;
        let (dom, _) = body.split_once("<script id=\"data\"").unwrap();
        Self { title: title.to_owned(), dom: dom.to_owned(), console }
    }

    /// Opens a report in a window so wide, without its policy and with a script at its end. The
    /// title of the page is what the script returns.
    pub(crate) fn with_script(directory: &Path, html: &str, width: u32, script: &str) -> Self {
        let html = html.replacen("Content-Security-Policy", "X-None", 1);
        let script = format!("<script>document.title = (() => {{ {script} }})();</script></body>");
        let output = run(
            directory,
            &html.replacen("</body>", &script, 1),
            "",
            &["--dump-dom", &format!("--window-size={width},900")],
        );
        Self::of(output)
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

/// Colour of the pixel at the top left: red, green, blue.
pub(crate) fn corner(directory: &Path, html: &str, hash: &str, words: &[&str]) -> [u8; 3] {
    let png = directory.join("shot.png");
    let shot = format!("--screenshot={}", png.display());
    run(directory, html, hash, &[&[&*shot], words].concat());
    let png = fs::read(png).unwrap();
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

fn run(directory: &Path, html: &str, hash: &str, words: &[&str]) -> Output {
    let (file, profile) = (directory.join("report.html"), directory.join("profile"));
    fs::write(&file, html).unwrap();
    let output = Command::new("timeout")
        .args(["120", "chromium", "--headless=new", "--no-sandbox", "--disable-gpu"])
        .args(["--no-first-run", "--disable-background-networking", "--disable-sync"])
        .args(["--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars"])
        .args(["--enable-logging=stderr", "--virtual-time-budget=10000", "--window-size=1280,900"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(words)
        .arg(format!("file://{}{hash}", file.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output
}
