//! Checks that this CRIU can read the images.

use criu_images::proto::PagemapEntry;
use criu_images::{Image, kind};

use super::Saved;
use crate::diagnosis::Cause;
use crate::preflight::finding::Finding;
use crate::value::Version;

/// Checks that this CRIU is new enough for the images.
pub(super) fn version(saved: &Saved<'_>) -> criu_images::Result<Option<Finding>> {
    let (set, look) = (saved.set, saved.look);
    let skew = |needs: Version| {
        let detail = format!("they need CRIU {needs}, this one is {}", look.version);
        Finding::blocks(Cause::VersionSkew).detail(detail)
    };
    if set.inventory().img_version > 2 && look.version < Version::new(4, 3, 0) {
        return Ok(Some(skew(Version::new(4, 3, 0))));
    }
    let newer = Version::new(4, 2, 0);
    for task in set.checkpoint()?.tasks() {
        let name = kind::PAGEMAP.file_name(task.pid().into());
        let Some(bytes) = set.read(&name)? else { continue };
        let mut image = Image::parse(&name, &bytes, kind::PAGEMAP)?;
        // The first entry is the head, the second is a run of pages.
        let _head = image.next_entry()?;
        if let Some(entry) = image.next_entry()? {
            let wide = entry.decode::<PagemapEntry>()?.nr_pages.is_some();
            return Ok((wide && look.version < newer).then(|| skew(newer)));
        }
    }
    Ok(None)
}
