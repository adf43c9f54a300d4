//! Lines of flags, their differences, and the corrections of images.

use criu_images::Image;
use criu_images::kind::MM;
use criu_images::proto::MmEntry;

use super::change::{Change, corrected};
use super::*;

fn select_from(text: &str) -> io::Result<String> {
    let text = select(text.as_bytes(), Instant::now() + Duration::from_secs(60))?;
    Ok(String::from_utf8(text).unwrap())
}

fn compare(told: &str, now: &str) -> Result<Vec<Change>, String> {
    let task = Pid::new(7).unwrap();
    changes(task, told.as_bytes(), now.as_bytes()).map_err(|error| error.to_string())
}

const MAPPING: &str = "1000-3000 rw-p 00000000 00:00 0 \n";

fn with(flags: &str) -> String {
    format!("{MAPPING}VmFlags: {flags} \n")
}

#[test]
fn lines_of_mappings_and_flags_are_taken() {
    let file = "4000-5000 r--p 00000000 fe:01 7                          /a b\\012VmFlags: x\n";
    let text = format!(
        "{MAPPING}Size:                  8 kB\nTHPeligible:           0\nVmFlags: rd wr \n\
         {file}Rss: 0 kB\nVmFlags: rd \n"
    );
    assert_eq!(
        select_from(&text).unwrap(),
        format!("{MAPPING}VmFlags: rd wr \n{file}VmFlags: rd \n")
    );
    assert_eq!(select_from("").unwrap(), "");
    let kind = |text: &str| select_from(text).unwrap_err().kind();
    for text in [
        MAPPING.to_owned(),
        MAPPING.repeat(2) + "VmFlags: rd \n",
        "VmFlags: rd \n".to_owned(),
        with("rd") + "VmFlags: rd \n",
        format!("{MAPPING}VmFlags: rd"),
        format!("{MAPPING}Size: 8 kB\n"),
    ] {
        assert_eq!(kind(&text), io::ErrorKind::InvalidData, "{text}");
    }
    let late = select(with("rd").as_bytes(), Instant::now() - Duration::from_secs(1));
    assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
}

#[test]
fn own_flags_are_those_of_smaps() {
    let until = Instant::now() + Duration::from_secs(60);
    let text = String::from_utf8(lines(Pid::this(), until).unwrap()).unwrap();
    let (mappings, flags): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| !line.starts_with("VmFlags: "));
    assert!(mappings.len() == flags.len() && mappings.iter().any(|line| line.ends_with("[stack]")));
    assert!(flags.iter().any(|line| line.contains(" gd ")), "{text}");
}

#[test]
fn differences_are_told_by_their_bits() {
    let change = |told: &str, now: &str| compare(&with(told), &with(now));
    assert_eq!(change("rd wr ac", "rd wr ac"), Ok(vec![]));
    assert_eq!(change("rd wr ac sd um", "rd wr ac lf"), Ok(vec![]));
    let (file, flags) = ("1000-3000 rw-p 00000000 fe:01 7   /a", "\nVmFlags: rd \n");
    let gone = format!("{file} (deleted){flags}");
    assert_eq!(compare(&format!("{file}{flags}"), &gone), Ok(vec![]));
    let (start, end) = (0x1000, 0x3000);
    let advice = (1 << 16 | 1 << 15, 1 << 14);
    let wanted = Change { start, end, advice, flags: (0x4000, 0) };
    assert_eq!(change("rd hg ac", "rd nr nh dd ac"), Ok(vec![wanted]));
    let wanted = Change { start, end, advice: (1 << 1, 1 << 10), flags: (0, 0x4000) };
    assert_eq!(change("rd dc nr", "rd rr"), Ok(vec![wanted]));
}

#[test]
fn differences_without_a_correction_are_errors() {
    for code in ["ac", "dp", "gd", "ht", "io", "lo", "pf", "ss", "xx"] {
        for (told, now) in [("rd", format!("rd {code}")), (&*format!("rd {code} dd"), "rd".into())]
        {
            let why = compare(&with(told), &with(&now)).unwrap_err();
            let wanted = format!("flag {code} of the mapping 1000-3000 rw-p");
            assert!(why.contains(&wanted), "{why}");
        }
    }
    let two = with("rd") + "4000-5000 rw-p 00000000 00:00 0 \nVmFlags: rd \n";
    for (told, now) in [(&*two, &*with("rd")), (&with("rd"), &two), (&with("rd"), "")] {
        let why = compare(told, now).unwrap_err();
        assert!(why.contains("in the holder"), "{why}");
    }
}

#[test]
fn images_are_corrected_where_the_flags_differ() {
    let name = "mm-8.img";
    let bytes = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../images/tests/data/pipeline/mm-10139.img"
    ))
    .unwrap();
    let read = |bytes: &[u8]| {
        let mut image = Image::parse(name, bytes, MM).unwrap();
        let entry = image.next_entry().unwrap().unwrap();
        entry.decode::<MmEntry>().unwrap()
    };
    let mut mm = read(&bytes);
    let (start, end) = (mm.vmas[1].start, mm.vmas[1].end);
    let change = Change { start, end, advice: (1 << 16, 0), flags: (0x4000, 0) };
    let new = corrected(name, &bytes, &[change]).unwrap().unwrap();
    mm.vmas[1].madv = Some(mm.vmas[1].madv.unwrap_or(0) | 1 << 16);
    mm.vmas[1].flags |= 0x4000;
    assert_eq!(read(&new), mm);
    let back = Change { advice: (0, 1 << 16), flags: (0, 0x4000), ..change };
    assert_eq!(corrected(name, &new, &[back]).unwrap().unwrap(), bytes);
    let other = Change { end: end + 4096, ..change };
    assert_eq!(corrected(name, &bytes, &[change, other]).unwrap(), None);
}
