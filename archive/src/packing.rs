//! Forms in which archives are packed.

/// Forms in which the tar stream of an archive is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packing {
    /// Not at all.
    Plain,
    /// One gzip stream.
    Gzip,
    /// One zstd frame, or several without a table of contents.
    Zstd,
    /// Independent zstd frames with a table of contents at the end: any page can be read without
    /// what lies before it.
    Seekable,
}

/// Returns the name of the program that unpacks bytes, by their magic.
pub(crate) fn compressor(head: &[u8]) -> Option<&'static str> {
    let magics: [(&[u8], _); 6] = [
        (&[0x1f, 0x8b], "gzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        (b"\xfd7zXZ", "xz"),
        (b"BZh", "bzip2"),
        (&[0x04, 0x22, 0x4d, 0x18], "lz4"),
        (b"LZIP", "lzip"),
    ];
    let found = magics.iter().find(|(magic, _)| head.starts_with(magic));
    found.map(|(_, program)| *program)
}
