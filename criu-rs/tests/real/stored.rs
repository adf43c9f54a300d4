//! The pages of images, for the suites that compare them.

use std::collections::BTreeMap;
use std::path::Path;

use criu_images::memory::{PageObject, PageSet, PageSize, PageSource};

/// Every page of a set's objects, by object and address.
pub fn pages(directory: &Path) -> BTreeMap<(PageObject, u64), Vec<u8>> {
    let set = PageSet::open(directory, PageSize::K4).unwrap();
    let mut all = BTreeMap::new();
    for object in set.objects().unwrap() {
        let stored = set.pages(object).unwrap().unwrap();
        for run in stored.runs() {
            for n in 0..run.pages {
                let address = run.start + n * 4096;
                let mut page = vec![0; 4096];
                stored.read_at(address, &mut page).unwrap();
                all.insert((object, address), page);
            }
        }
    }
    all
}
