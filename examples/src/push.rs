//! `push`: sends a checkpoint as an OCI image to a registry, or writes an image layout.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use criu_archive::ErrorKind;
use criu_archive::oci::Image;
use criu_archive::registry::Registry;
use serde_json::json;

use crate::exit::Exit;
use crate::output::Output;
use crate::packed::{self, is_with_record};
use crate::progress::Progress;
use crate::remote::{Named, Opened, RegistryArgs};
use crate::target;
use crate::tool::{Fallible, Tool};
use crate::word::Table;

/// Options of `push`.
#[derive(Args)]
pub(crate) struct Push {
    /// An archive, a directory with a record (criu-record.json), or an image in a layout:
    /// oci:DIR[:TAG], oci-archive:FILE[:TAG]
    #[arg(value_name = "ARCHIVE|DIR|IMAGE")]
    from: PathBuf,
    /// The image to make: HOST[:PORT]/NAME[:TAG] in a registry, oci:DIR[:TAG] or
    /// oci-archive:FILE[:TAG]
    #[arg(value_name = "REFERENCE")]
    to: PathBuf,
    #[command(flatten)]
    registry: RegistryArgs,
    /// Print one JSON object on standard output
    #[arg(long, help_heading = "This program")]
    json: bool,
}

impl Tool for Push {
    const WORD: &'static str = "push";
    const ABOUT: &'static str = "Sends a checkpoint to a registry, as an OCI image.";
    const MORE: &'static str = "\
The image has one layer, which is the archive as it is. Its annotations are those by which Podman,
CRI-O and containerd know a checkpoint; index and manifest have the same. Equal archives make equal
images. A layer that the registry has is not sent again, and the tag moves last: a push that fails
leaves the old image.

A directory that `criu-rs pod checkpoint` has made is packed with zstd on the way, into a file
without a name beside the directory. `criu-rs pull REFERENCE DIR/` makes the same directory again.
Equal directories make equal images, too.

A path that exists is a file, also if its name looks like a reference.

Examples:
  criu-rs push checkpoint.tar registry.example.org/counter:v1
  criu-rs push checkpoint.tar localhost:5000/counter:v1
  criu-rs push shop/ registry.example.org/shop:v1        of `pod checkpoint`
  criu-rs push checkpoint.tar oci:layout:v1              a layout, in a directory
  criu-rs push oci-archive:image.tar:v1 registry.example.org/counter:v1
  criu-rs push --json checkpoint.tar localhost:5000/counter | jq -r .reference

Exit status:
  0  done
  1  the image was not sent
  2  wrong usage
  4  stopped by Ctrl-C or SIGTERM while a directory was packed: nothing was sent";

    fn run(self, _: &str, _: &Table) -> Fallible<ExitCode> {
        let output = Output::new("criu-rs push", Self::WORD, self.json);
        let to = Named::required(&self.to, "is a file")?;
        if let Named::Layout(layout, _) = &to {
            match Named::of(&self.from) {
                Some(Named::Layout(from, _)) => target::refuse(layout.path(), [from.path()])?,
                Some(_) => {}
                None => target::refuse(layout.path(), [&*self.from])?,
            }
        }
        let access = self.registry.access();
        let image = match Named::of(&self.from) {
            Some(from) => Opened::of(&from, &access)?.image,
            None if is_with_record(&self.from) => packed::image(&self.from)?,
            None => Image::of_archive(&self.from).map_err(|error| self.unfit(&error))?,
        };
        let layer = image.layer();
        let (size, media_type) = (layer.size, layer.media_type.clone());
        let mut facts = json!({
            "path": self.from.to_string_lossy(),
            "digest": image.digest().to_string(),
            "layer": layer.digest.to_string(),
            "media_type": media_type,
            "bytes": size,
        });
        let said = match &to {
            Named::Layout(layout, tag) => {
                layout.write(&image, tag.as_deref())?;
                format!("{} is {}", self.to.display(), image.digest())
            }
            Named::Registry(reference) => {
                let registry = Registry::connect(reference.clone(), &access)?;
                let progress = Progress::of_bytes(size);
                let pushed = registry.push(&image, progress.listener())?;
                drop(progress);
                let name = format!("{}/{}", reference.registry(), reference.repository());
                facts["reference"] = format!("{name}@{}", pushed.digest).into();
                facts["sent"] = pushed.sent.into();
                let had = if pushed.sent == 0 { ", whose layer was there" } else { "" };
                format!("{reference} is {name}@{}{had}", pushed.digest)
            }
        };
        output.done(said, facts);
        Ok(Exit::Done.into())
    }
}

impl Push {
    /// Says why a file makes no image, and what to do.
    fn unfit(&self, error: &criu_archive::Error) -> String {
        let name = self.from.display();
        match error.kind() {
            ErrorKind::Encrypted => format!(
                "{name}: is encrypted, and no engine restores from such an image: decrypt it first \
                 with `criu-rs archive decrypt`"
            ),
            ErrorKind::NotAFile if self.from.is_dir() => format!(
                "{name}: is a directory without a record: make an archive of it with `criu-rs archive \
                 create`"
            ),
            _ => error.to_string(),
        }
    }
}
