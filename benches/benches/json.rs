//! Decoding large images to JSON, beside CRIU's crit: whole processes, from a file to a file.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criu_benches::{Result, crius, files, image, mm, pagemap, summary};
use criu_images::json::{Style, decode_file};
use criu_images::kind::{self, Kind};

/// The argument that makes this program decode: `--decode FILE OUT [pretty]`.
const DECODE: &str = "--decode";

fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().collect();
    if let [_, word, file, out, rest @ ..] = words.as_slice() {
        if word == DECODE {
            let style = Style { pretty: !rest.is_empty(), no_payload: false };
            let mut out = fs::File::create(out)?;
            decode_file(file, fs::File::open(file)?, style, &mut out)?;
            let status = fs::read_to_string("/proc/self/status")?;
            let peak = status.lines().find(|line| line.starts_with("VmHWM"));
            eprint!("{}", peak.ok_or("no peak")?);
            return Ok(());
        }
    }
    let folder = std::env::temp_dir().join(format!("criu-json-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let newest = crius()?.pop().ok_or("no CRIU")?.1;
    let packages = newest.ancestors().nth(3).map(|usr| usr.join("usr/lib/python3/dist-packages"));
    let packages = packages.ok_or("no folder")?;
    println!("| image | size | JSON | | this crate | crit 4.3 | | peak memory |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let images = [
        ("mm of 200,000 mappings", write(&folder.join("mm.img"), kind::MM, &[mm(200_000)])?),
        (
            "pagemap of 400,000 entries",
            write(&folder.join("pagemap.img"), kind::PAGEMAP, &pagemap(400_000))?,
        ),
        ("files of 50,000 files", write(&folder.join("files.img"), kind::FILES, &files(50_000))?),
    ];
    for (what, image) in &images {
        for pretty in [false, true] {
            let (ours, theirs) = (folder.join("ours"), folder.join("theirs"));
            let mut own = Command::new(std::env::current_exe()?);
            own.arg(DECODE).arg(image).arg(&ours).args(pretty.then_some("pretty"));
            let mut crit = Command::new("/usr/bin/python3");
            crit.args(["-c", "from crit.__main__ import main; main()", "decode", "-i"]);
            crit.arg(image).arg("-o").arg(&theirs).args(pretty.then_some("--pretty"));
            crit.env("PYTHONPATH", &packages);
            let peak = String::from_utf8(own.output()?.stderr)?;
            let peak = peak.trim_start_matches("VmHWM:").trim().to_owned();
            let (mut own, mut crit) = (times(&mut own, 11)?, times(&mut crit, 3)?);
            let (own_text, crit_text) = (summary(&mut own), summary(&mut crit));
            if fs::read(&ours)? != fs::read(&theirs)? {
                return Err(format!("{what}: the two say different things").into());
            }
            let ratio = median(&crit).as_secs_f64() / median(&own).as_secs_f64();
            let style = if pretty { "pretty" } else { "plain" };
            let megabytes = |path: &Path| fs::metadata(path).map(|meta| meta.len() as f64 / 1e6);
            println!(
                "| {what} | {:.1} MB | {:.1} MB | {style} | {own_text} | {crit_text} | {ratio:.0}x | {peak} |",
                megabytes(image)?,
                megabytes(&ours)?,
            );
        }
    }
    Ok(fs::remove_dir_all(&folder)?)
}

fn times(command: &mut Command, rounds: usize) -> Result<Vec<Duration>> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begun = Instant::now();
        if !command.status()?.success() {
            return Err(format!("{command:?} failed").into());
        }
        times.push(begun.elapsed());
    }
    Ok(times)
}

fn median(sorted: &[Duration]) -> Duration {
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn write(path: &Path, kind: &Kind, messages: &[Vec<u8>]) -> Result<std::path::PathBuf> {
    fs::write(path, image(kind, messages)?)?;
    Ok(path.to_owned())
}
