//! Archives that are damaged, or lie.

use std::fs;
use std::process::Command;

use criu_images::source::Blob;
use criu_lab::scratch;
use sha2::{Digest, Sha256};

use super::made::{TestFile, all, files, memory, plain, write};
use crate::packing::{Form, HotPages, Layer, layer};

/// Reads an archive whole, with its working set and digests, in every way that it can be opened.
fn read(packed: &[u8]) -> Result<Vec<u8>, String> {
    let opened = layer(&Blob::from(packed.to_vec())).map_err(|fault| format!("{fault:?}"))?;
    let fail = |error: std::io::Error| error.to_string();
    match opened {
        Layer::Anywhere { bytes, toc, .. } => {
            if let Some(toc) = &toc {
                toc.prefetch().map_err(fail)?;
                for member in toc.members.iter().filter(|member| member.has_content()) {
                    toc.digest_of(member.row).map_err(fail)?;
                }
            }
            all(&bytes).map_err(fail)
        }
        Layer::Forward { opener, .. } => {
            let mut out = Vec::new();
            let stream = opener.open().map_err(fail)?;
            std::io::Read::read_to_end(&mut std::io::Read::take(stream, 1 << 26), &mut out)
                .map_err(fail)?;
            Ok(out)
        }
    }
}

fn archive() -> (Vec<TestFile>, Vec<u8>) {
    let mut files = files();
    files.truncate(12);
    files.push(TestFile { name: "checkpoint/pages-1.img".into(), bytes: memory(200 << 10, 8) });
    let path = b"checkpoint/pages-1.img".to_vec();
    let hot = (0..10).map(|at| HotPages { path: path.clone(), offset: at * 8192, len: 4096 });
    let form = Form::Seekable { level: 1, threads: 1 };
    let written = write(&files, Vec::new(), form, Some(hot.collect())).unwrap();
    (files, written.out)
}

/// Unpacks an archive by the program `zstd`, which knows no table.
fn as_zstd_reads(packed: &[u8]) -> Result<Vec<u8>, String> {
    let directory = scratch("flipped");
    let path = directory.join("a.tar.zst");
    fs::write(&path, packed).unwrap();
    let found = Command::new("zstd").arg("-dc").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&found.stderr).into_owned();
    if found.status.success() { Ok(found.stdout) } else { Err(said) }
}

#[test]
fn a_flipped_byte_anywhere_is_found_or_changes_nothing() {
    let (files, packed) = archive();
    let tar = plain(&files);
    assert!(read(&packed).unwrap() == tar);
    // Without its magic the archive would be a plain one.
    let tables = packed.len() - 2000;
    let is_head = |at: &usize| packed[*at..].starts_with(&[0x5c, 0x2a, 0x4d, 0x18]);
    let heads: Vec<_> = (4..tables).filter(is_head).collect();
    assert!(heads.len() >= 2, "{heads:?}");
    let heads = heads.into_iter().flat_map(|at| at..at + 8);
    let places = (4..tables).step_by(311).chain(heads).chain(tables..packed.len());
    let (mut flipped, mut found, mut harmless) = (packed.clone(), 0, 0);
    for at in places {
        let bit = 1 << (at % 8);
        flipped[at] ^= bit;
        match read(&flipped) {
            Ok(bytes) => {
                assert!(bytes == tar, "{at}");
                assert!(as_zstd_reads(&flipped).is_ok_and(|bytes| bytes == tar), "{at}");
                harmless += 1;
            }
            Err(_) => found += 1,
        }
        flipped[at] ^= bit;
    }
    assert!(found > 4 * harmless, "{found} {harmless}");
}

#[test]
fn a_cut_archive_is_never_taken_for_a_whole_one() {
    let (files, packed) = archive();
    let tar = plain(&files);
    // Tables that are cut away whole leave a zstd archive.
    let mut is_whole = 0;
    for len in (6..packed.len()).step_by(997).chain(packed.len() - 1500..packed.len()) {
        match read(&packed[..len]) {
            Ok(bytes) if bytes == tar => is_whole += 1,
            Ok(bytes) => assert!(tar.starts_with(&bytes), "{len}"),
            Err(_) => {}
        }
    }
    assert!(is_whole < 10, "{is_whole}");
    for more in [&b"x"[..], &[0; 9], &packed] {
        if let Ok(bytes) = read(&[&packed, more].concat()) {
            assert!(bytes == tar || bytes == tar.repeat(2));
        }
    }
}

/// An archive of a frame with this message as its table of contents.
fn with_table(message: &[u8]) -> Vec<u8> {
    let mut archive = zstd::encode_all(&[0; 1024][..], 1).unwrap();
    let frame = archive.len();
    let packed = zstd::encode_all(message, 1).unwrap();
    let mut table = packed.clone();
    table.extend(Sha256::digest(&packed));
    for number in [packed.len(), message.len(), 1] {
        table.extend((number as u32).to_le_bytes());
    }
    table.extend(b"criu-toc");
    archive.extend(0x184d_2a5cu32.to_le_bytes());
    archive.extend((table.len() as u32).to_le_bytes());
    archive.extend(&table);
    let sizes = [frame, 1024, table.len() + 8, 0];
    archive.extend(0x184d_2a5eu32.to_le_bytes());
    archive.extend((sizes.len() as u32 * 4 + 9).to_le_bytes());
    archive.extend(sizes.iter().flat_map(|size| (*size as u32).to_le_bytes()));
    archive.extend(2u32.to_le_bytes());
    archive.push(0);
    archive.extend(0x8f92_eab1u32.to_le_bytes());
    archive
}

#[test]
fn a_small_file_cannot_claim_a_large_table() {
    // A column of sizes, and columns of members: each byte would take up to 8 bytes of memory.
    let column = |field: u8, len: usize| {
        let mut column = vec![field << 3 | 2];
        prost::encode_length_delimiter(len, &mut column).unwrap();
        column.resize(column.len() + len, 1);
        column
    };
    for (message, want) in [
        (column(2, 8 << 20), "TooLarge"),
        // Without sizes unpacked, and with frames smaller than any frame.
        (column(2, 9), "Malformed"),
        ([column(2, 9), column(3, 9)].concat(), "Malformed"),
        (vec![], "Malformed"),
    ] {
        let refused = read(&with_table(&message)).unwrap_err();
        assert!(refused.contains(want) && refused.contains("table of contents"), "{refused}");
    }
    // Members, in the message of field 4.
    let mut members = column(9, 1 << 20);
    members.extend(column(4, 1 << 20));
    let mut message = vec![4 << 3 | 2];
    prost::encode_length_delimiter(members.len(), &mut message).unwrap();
    message.extend(members);
    let refused = read(&with_table(&message)).unwrap_err();
    assert!(refused.contains("TooLarge"), "{refused}");
}

#[test]
fn tables_of_impossible_sizes_are_refused_without_the_memory() {
    let footer = |count: u32, size: u32| {
        let mut packed = zstd::encode_all(&[0; 512][..], 1).unwrap();
        packed.extend(0x184d_2a5eu32.to_le_bytes());
        packed.extend(size.to_le_bytes());
        packed.extend(vec![0; 64]);
        packed.extend(count.to_le_bytes());
        packed.push(0);
        packed.extend(0x8f92_eab1u32.to_le_bytes());
        packed
    };
    for count in [0, 1, 8, 9, u32::MAX / 8, u32::MAX] {
        let size = count.wrapping_mul(8).wrapping_add(9);
        // Neither a panic nor an endless loop.
        let _ = read(&footer(count, size));
    }
    let (_, packed) = archive();
    // Sizes in the end of the table of contents.
    let magic = packed.windows(8).rposition(|bytes| bytes == b"criu-toc").unwrap();
    for (at, want) in [(12, "TooLarge"), (8, "TooLarge"), (4, "version 1")] {
        let mut lies = packed.clone();
        lies[magic - at..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        let refused = read(&lies).unwrap_err();
        assert!(refused.contains(want), "{refused}");
    }
}
