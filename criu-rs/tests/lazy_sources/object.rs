//! Objects as a source.

use std::fs::{self, File};
use std::io;
use std::ops::Range;

use criu_lab::scratch;
use criu_rs::lazy::{LazyError, Object, ObjectPages, ObjectRun, Supply, Urgency};

use crate::set::{BASE, PAGE, addresses, page, read};

fn runs() -> Vec<ObjectRun> {
    let at = |page: u64| BASE + page * PAGE;
    vec![
        ObjectRun::new(9, at(0)..at(4), 64 * PAGE),
        ObjectRun::new(7, at(8)..at(12), 512),
        ObjectRun::new(7, at(0)..at(8), 8 * PAGE),
    ]
}

/// Bytes that name their place: byte N of the object has the value of N's page.
#[derive(Debug)]
struct Numbers;

impl Object for Numbers {
    fn read_exact_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        for (at, byte) in (offset..).zip(&mut *buf) {
            if at >= 67 * PAGE {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            *byte = (at / PAGE).to_le_bytes()[0];
        }
        Ok(())
    }
}

#[test]
fn an_object_is_read_at_the_place_of_each_page() {
    let source = ObjectPages::new(Numbers, runs()).unwrap();
    let mut reader = source.reader(Urgency::Fault).unwrap();
    let bytes = |pages: Range<u8>| pages.flat_map(|page| [page; 4096]).collect::<Vec<u8>>();
    assert_eq!(read(&mut *reader, 7, BASE, 8).unwrap(), bytes(8..16));
    assert_eq!(read(&mut *reader, 9, BASE, 3).unwrap(), bytes(64..67));
    let odd = read(&mut *reader, 7, BASE + 9 * PAGE, 1).unwrap();
    assert_eq!((odd[0], odd[3583], odd[3584]), (1, 1, 2));
    let missing = [BASE..BASE + 8 * PAGE, BASE + 8 * PAGE..BASE + 12 * PAGE];
    assert_eq!(source.missing(7), missing);
    assert_eq!(source.missing(8), []);
    // The end of the object, and pages that it does not have.
    let error = read(&mut *reader, 9, BASE + 3 * PAGE, 1).unwrap_err();
    assert!(error.to_string().ends_with("the object ends before it"), "{error}");
    for (pid, address) in [(9, BASE + 4 * PAGE), (8, BASE), (7, BASE - PAGE), (7, u64::MAX)] {
        let error = read(&mut *reader, pid, address, 1).unwrap_err();
        assert!(matches!(error, LazyError::NoPage { .. }), "{error}");
    }
}

#[test]
fn a_file_has_all_pages_of_its_runs() {
    let dir = scratch("lazy-object");
    let path = dir.join("memory");
    fs::write(&path, addresses(0, 68).flat_map(page).collect::<Vec<u8>>()).unwrap();
    let source = ObjectPages::of_file(File::open(&path).unwrap(), runs()).unwrap();
    let mut reader = source.reader(Urgency::Background).unwrap();
    let want: Vec<u8> = addresses(8 * PAGE, 8).flat_map(page).collect();
    assert_eq!(read(&mut *reader, 7, BASE, 8).unwrap(), want);
    assert_eq!(read(&mut *reader, 7, BASE + 8 * PAGE, 1).unwrap()[..8], page(0)[..8]);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(67 * PAGE + 1).unwrap();
    let error = read(&mut *reader, 9, BASE + 3 * PAGE, 1).unwrap_err().to_string();
    assert!(error.ends_with("the object ends before it"), "{error}");
    let error = ObjectPages::of_file(File::open(&path).unwrap(), runs()).unwrap_err().to_string();
    assert!(error.ends_with("the file ends before the last page of its run"), "{error}");
}

#[test]
fn runs_that_cannot_be_are_refused() {
    let wrong = [
        (BASE..BASE, 0, "whole pages"),
        (BASE + 1..BASE + PAGE, 0, "whole pages"),
        (BASE..BASE + PAGE + 1, 0, "whole pages"),
        (BASE..BASE + PAGE, u64::MAX - 10, "whole pages"),
        (BASE + 7 * PAGE..BASE + 9 * PAGE, 0, "two runs have it"),
    ];
    for (addresses, offset, said) in wrong {
        let all = [vec![ObjectRun::new(7, addresses, offset)], runs()].concat();
        let error = ObjectPages::new(Numbers, all).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}
