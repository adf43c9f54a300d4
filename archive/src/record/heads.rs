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
    /// what its head says. Files that are missing, and those of no known tool, are left out.
    pub fn heads(&self, holder: &Holder) -> Vec<(&str, Result<Head>)> {
        let mut heads = Vec::new();
        for container in self.containers.iter().filter(|container| has_head(container)) {
            for file in images(self, container) {
                let is_read = heads.iter().any(|(path, _)| *path == &*file.path);
                if let Some(head) = head(file, holder).filter(|_| !is_read) {
                    heads.push((&*file.path, head));
                }
            }
        }
        heads
    }
}

/// Returns true for a container of a tool whose files have heads that are read.
pub(super) fn has_head(container: &Container) -> bool {
    matches!(container.tool.kind, ToolKind::Runsc | ToolKind::Qemu | ToolKind::Firecracker)
}

/// Images of a container: its own, or those of the whole sandbox if it has none.
pub(super) fn images<'r>(
    record: &'r Record,
    container: &'r Container,
) -> impl Iterator<Item = &'r File> {
    let all = if container.files.is_empty() { &record.files } else { &container.files };
    all.iter().filter(|file| file.role == Role::Image)
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
