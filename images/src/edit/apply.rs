//! Edits carried out, and the new images they make.

use super::marks::mark;
use super::rewrite::rewrite;
use super::rules::Rules;
use super::{Edit, Edited};
use crate::error::Result;
use crate::set::ImageSet;

/// Carries out edits, one after another, and returns the images that they change. An empty list
/// means that there was nothing to edit. Parent sets stay as they are, because they have only
/// memory.
///
/// ```
/// use criu_images::ImageSet;
/// use criu_images::edit::{Edit, edit};
///
/// let set = ImageSet::open("tests/data/pipeline")?;
/// let to = Edit::Path { from: b"/tmp".into(), to: b"/var/tmp".into() };
/// for image in edit(&set, &[to])? {
///     println!("{}: {} places", image.name, image.changes);
/// }
/// # Ok::<(), criu_images::Error>(())
/// ```
///
/// # Errors
/// The errors of reading the images. [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for
/// an edit that makes no sense in this set, and [`ErrorKind::Dangling`](crate::ErrorKind::Dangling)
/// for a seccomp filter that the set does not have.
pub fn edit(set: &ImageSet, edits: &[Edit]) -> Result<Vec<Edited>> {
    let mut edited: Vec<Edited> = Vec::new();
    for edit in edits {
        match edit {
            Edit::MarkLazy => {
                // No other edit changes pagemaps. A second one of this kind makes the same ones.
                let marked = mark(set)?;
                edited.retain(|image| marked.iter().all(|new| new.name != image.name));
                edited.extend(marked);
            }
            edit => by_rules(set, edit, &mut edited)?,
        }
    }
    Ok(edited)
}

/// Carries out an edit that changes fields of messages.
fn by_rules(set: &ImageSet, edit: &Edit, edited: &mut Vec<Edited>) -> Result<()> {
    let rules = Rules::new(set, edit, edited)?;
    for name in rules.images(set)? {
        let before = edited.iter().position(|image| image.name == name);
        let read;
        let bytes = match before.and_then(|index| edited.get(index)) {
            Some(image) => &image.bytes,
            None => match set.read(&name)? {
                Some(bytes) => {
                    read = bytes;
                    &read
                }
                None => continue,
            },
        };
        let mut changes = 0;
        let changed = rewrite(&name, bytes, &mut |patch, bytes| {
            let touched = rules.apply(patch, bytes)?;
            changes += usize::from(touched);
            Ok(())
        })?;
        let Some(bytes) = changed else { continue };
        match before.and_then(|index| edited.get_mut(index)) {
            Some(image) => {
                image.bytes = bytes;
                image.changes += changes;
            }
            None => edited.push(Edited { name, bytes, changes }),
        }
    }
    Ok(())
}
