//! Heads of files of tools other than CRIU.

use super::Record;
use super::container::Container;
use super::file::{File, Role};
use super::holder::Holder;
use super::tool::ToolKind;
use crate::error::Result;
use crate::foreign::Head;

impl Record {
    /// Reads the heads of the images that other tools than CRIU have written: the path of each, and
    /// what its head says. Files that are missing, and those of no known tool, are left out. No
    /// further head is read when those that were read have said 16 MiB.
    pub fn heads(&self, holder: &Holder) -> Vec<(&str, Result<Head>)> {
        let (mut heads, mut bytes) = (Vec::new(), 0);
        for file in groups(self).flat_map(|(_, files)| images(files)) {
            let Some(head) = head(file, holder) else { continue };
            bytes += head.as_ref().map_or(0, said);
            heads.push((&*file.path, head));
            if bytes >= MOST_BYTES {
                break;
            }
        }
        heads
    }
}

/// Returns true for a container of a tool whose files have heads that are read.
fn has_head(container: &Container) -> bool {
    matches!(container.tool.kind, ToolKind::Runsc | ToolKind::Qemu | ToolKind::Firecracker)
}

/// Groups the containers whose files have heads by the files that are theirs: all containers
/// without files of their own, whose files are those of the sandbox, and each other one.
pub(super) fn groups(record: &Record) -> impl Iterator<Item = (Vec<&Container>, &[File])> {
    let containers = record.containers.iter().filter(|container| has_head(container));
    let (bare, own): (Vec<_>, Vec<_>) =
        containers.partition(|container| container.files.is_empty());
    let shared = (!bare.is_empty()).then_some((bare, &*record.files));
    shared.into_iter().chain(own.into_iter().map(|one| (vec![one], &*one.files)))
}

/// Returns the images among files.
pub(super) fn images(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.role == Role::Image)
}

/// Reads the head of a file; `None` if it is not there, or of no known tool.
pub(super) fn head(file: &File, holder: &Holder) -> Option<Result<Head>> {
    let bytes = holder.bytes(&file.path).transpose()?;
    let head = bytes.and_then(|bytes| {
        let head = Head::read(&file.path, &bytes);
        head.map_err(|error| holder.fault(&file.path, error.into_fault()))
    });
    head.transpose()
}

/// Returns the bytes that a head says.
fn said(head: &Head) -> usize {
    head.facts().iter().map(|(name, value)| name.len() + value.len()).sum()
}

/// Bytes of heads after which no further one is read. The head of a state of gVisor may have as
/// many, and links can show a file a hundred thousand times.
const MOST_BYTES: usize = 16 << 20;
