//! The hostile archives: their bytes, and the refusal that each is to get.

use super::made::{BLOCK, extended, file, filled, header, record, signed};

/// A hostile archive.
pub(crate) struct Hostile {
    pub(crate) name: &'static str,
    pub(crate) bytes: Vec<u8>,
    /// Moment of the refusal.
    pub(crate) at: At,
    /// The member that the error names; empty if it is the archive as a whole.
    pub(crate) member: &'static str,
    /// A part of the message.
    pub(crate) reason: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// When the archive is opened.
    Open,
    /// When the member is read, and when it is extracted.
    Use,
    /// When it is extracted. The member has no bytes to read.
    Extraction,
}

/// All hostile archives.
pub(crate) fn corpus() -> Vec<Hostile> {
    let mut all = Vec::new();
    let mut add = |name, at, member, reason, parts: Vec<Vec<u8>>| {
        let bytes = [parts.concat(), vec![0; 2 * BLOCK]].concat();
        all.push(Hostile { name, bytes, at, member, reason });
    };
    let open = At::Open;
    let first = || file("checkpoint/inventory.img", b"123");

    // Names.
    let (up, absolute) = ("its name has `..`", "its name is an absolute path");
    add("up", open, "../a", up, vec![first(), file("../a", b"1")]);
    add("up-inside", open, "a/../../b", up, vec![file("a/../../b", b"1")]);
    add("up-that-stays", open, "a/../b", up, vec![file("a/../b", b"1")]);
    add("up-directory", open, "..", up, vec![header("..", b'5', 0).to_vec()]);
    add("up-pax", open, "a/..", up, vec![extended(b'x', &record("path", b"a/..")), file("a", b"")]);
    add("up-gnu", open, "../x", up, vec![extended(b'L', b"../x\0"), file("x", b"")]);
    add("up-with-escapes", open, "../\x1b]0;x\x07", up, vec![file("../\x1b]0;x\x07", b"")]);
    add("absolute", open, "/etc/passwd", absolute, vec![first(), file("/etc/passwd", b"root")]);
    add("absolute-link", open, "/l", absolute, vec![link("/l", b'2', "a")]);
    add("slashes", open, "//a", absolute, vec![file("//a", b"")]);
    let broken = vec![extended(b'x', &record("path", b"a\xff")), file("a", b"")];
    add("not-utf-8", open, "a\u{fffd}", "its name is not UTF-8", broken);
    let zero = vec![extended(b'x', &record("path", b"a\0b")), file("a", b"")];
    add("zero-byte", open, "a\0b", "its name has a zero byte", zero);
    let long = vec![extended(b'L', &[b'n'; 4097]), file("n", b"")];
    add("long", open, LONG, "its name is longer than any path", long);
    add("no-name", open, ".", "it has no name", vec![link(".", b'2', "a")]);
    add("empty-name", open, "", "it has no name", vec![file("", b"12")]);

    // Doubles and clashes.
    let twice = "there are two members of this name";
    let inside = "it lies in a member that is not a directory";
    add("twice", open, "a", twice, vec![file("a", b"1"), file("a", b"2")]);
    add("twice-written-otherwise", open, "a/b", twice, vec![file("a/b", b""), file("./a//b", b"")]);
    let directory = |name: &str| header(name, b'5', 0).to_vec();
    add("twice-by-a-dot", open, "a", twice, vec![file("a", b"1"), file("./a", b"2")]);
    add("twice-by-a-slash", open, "a", twice, vec![file("a", b""), file("a/", b"")]);
    add("file-then-directory", open, "a", twice, vec![file("a", b""), directory("a/")]);
    add("link-then-file", open, "a", twice, vec![link("a", b'2', "/etc"), file("a", b"")]);
    add("directory-then-link", open, "a", twice, vec![directory("a"), link("a", b'2', "/etc")]);
    add("in-a-file", open, "a/b", inside, vec![file("a", b""), file("a/b", b"")]);
    add("in-a-link", open, "a/b", inside, vec![link("a", b'2', "/etc"), file("a/b", b"")]);
    add("in-a-link-before", open, "a/b/c", inside, vec![file("a/b/c", b""), link("a", b'2', ".")]);
    let far = vec![file("a-", b""), file("a", b""), file("a.b", b""), file("a/b/c/d", b"")];
    add("in-a-file-far-away", open, "a/b/c/d", inside, far);

    // Hard links.
    let before = "it is a link to a member that does not come before";
    add(
        "hard-up",
        open,
        "a",
        "the target of the link has `..`",
        vec![link("a", b'1', "../../etc/passwd")],
    );
    let target = "the target of the link is an absolute path";
    add("hard-absolute", open, "a", target, vec![link("a", b'1', "/etc/passwd")]);
    add("hard-absent", open, "a", before, vec![link("a", b'1', "b")]);
    add("hard-later", open, "a", before, vec![link("a", b'1', "b"), file("b", b"")]);
    add("hard-itself", open, "a", before, vec![link("a", b'1', "a")]);
    let chain = vec![file("a", b""), link("b", b'1', "a"), link("c", b'1', "b")];
    let to_directory = vec![directory("a"), link("b", b'1', "a")];
    add("hard-directory", open, "b", "it is a hard link to a directory", to_directory);
    add("hard-chain", open, "c", "it is a hard link to a hard link", chain);

    // Sizes.
    let size = |size: &[u8]| extended(b'x', &record("size", size));
    let differ = "its header and its PAX records differ in size";
    // The header says 0: a reader that follows it finds members in the content.
    let nested = file("nested", b"hidden");
    let smuggled = [size(nested.len().to_string().as_bytes()), file("a", b""), nested].concat();
    add("size-smuggled", open, "a", differ, vec![smuggled]);
    add("size-smaller", open, "a", differ, vec![[size(b"1"), file("a", b"22")].concat()]);
    let content = "it has content, which its kind has not";
    let bare = [size(b"512"), directory("d"), filled(b"1")].concat();
    add("directory-with-content", open, "d", content, vec![bare]);
    let slash = vec![file("old/", b"12")];
    add("slash-with-content", open, "old/", "it is a directory with content", slash);
    add("past-the-end", open, "a", "ends early", vec![header("a", b'0', 1 << 30).to_vec()]);
    add(
        "past-all",
        open,
        "a",
        " bytes",
        vec![size(b"18446744073709551615"), header("a", b'0', 0).to_vec()],
    );
    let negative = |at: usize| {
        let mut block = header("a", b'0', 0);
        block[at..at + 12].fill(0xff);
        signed(block).to_vec()
    };
    add("negative", open, "", "has a number below 0", vec![first(), negative(124)]);

    // Descriptions.
    let name = |name: &[u8]| extended(b'x', &record("path", name));
    add(
        "twice-described",
        open,
        "",
        "describes one member twice",
        vec![name(b"a"), name(b"b"), file("c", b"")],
    );
    add(
        "nothing-described",
        open,
        "",
        "describes a member that is missing",
        vec![first(), name(b"a")],
    );
    let two = vec![name(b"a"), extended(b'L', b"b\0"), file("c", b"")];
    add("two-names", open, "", "it has two names or targets", two);
    let forever = vec![extended(b'x', b"0 path=a\n"), file("a", b"")];
    add("record-without-length", open, "", "PAX records that are broken", forever);
    let all_named = vec![extended(b'g', &record("path", b"a")), file("b", b""), file("c", b"")];
    add("one-name-for-all", open, "", "rename or resize all members", all_named);
    add(
        "claims-8-gib-of-records",
        open,
        "",
        "has 8589934592 bytes",
        vec![header("x", b'x', 8 << 30).to_vec()],
    );

    // The end.
    let behind = "there are bytes behind its end";
    let zeros = || vec![0; BLOCK];
    add("second-archive", open, "", behind, vec![first(), zeros(), zeros(), file("evil", b"")]);
    add("lone-zeros", open, "", behind, vec![first(), zeros(), file("evil", b"")]);
    add("garbage", open, "", behind, vec![first(), zeros(), zeros(), b"garbage".to_vec()]);

    // Headers that programs read differently.
    let unclear = "it describes the next member in a form that programs read differently";
    let evil = record("path", b"evil");
    add("solaris-records", open, "more", unclear, vec![extended(b'X', &evil), file("a", b"")]);
    for (name, sort, text) in [
        ("records-without-magic", b'x', &evil[..]),
        ("long-name-without-magic", b'L', b"evil\0"),
        ("long-target-without-magic", b'K', b"evil\0"),
        ("records-of-all-without-magic", b'g', &evil),
    ] {
        let mut bytes = extended(sort, text);
        bytes[257..265].fill(0);
        resign(&mut bytes);
        add(name, open, "more", unclear, vec![first(), bytes, file("a", b"")]);
    }
    let comment = extended(b'g', &record("comment", b"x"));
    let parted = "has PAX records of all members between a member and its description";
    add("parted", open, "", parted, vec![extended(b'x', &evil), comment, file("a", b"")]);
    let other_name = "programs find different names in its header";
    let mut star = file("a", b"");
    star[257..265].copy_from_slice(b"ustar\x0000");
    star[345..345 + 140].fill(b'p');
    star[508..].copy_from_slice(b"tar\0");
    resign(&mut star);
    add("prefix-of-star", open, STAR, other_name, vec![star]);
    let mut go = file("a", b"");
    go[345..350].copy_from_slice(b"evil/");
    resign(&mut go);
    add("times-as-prefix", open, "a", other_name, vec![go]);
    // Go reads the size, and GNU tar and others read none.
    let nested = file("nested", b"hidden");
    let mut late = file("a", b"");
    late[124..136].copy_from_slice(b"\x0000000002000");
    resign(&mut late);
    add("size-behind-a-zero", open, "", "has a number behind a zero byte", vec![late, nested]);
    // GNU tar passes over the content, and Go finds a member in it.
    let with_size = |name: &str, sort: u8| {
        let mut bytes = link(name, sort, "a");
        bytes[128..136].copy_from_slice(&512u64.to_be_bytes());
        bytes[124] = 0x80;
        resign(&mut bytes);
        bytes
    };
    for (name, sort) in [
        ("link-with-content", b'2'),
        ("character-with-content", b'3'),
        ("block-with-content", b'4'),
        ("fifo-with-content", b'6'),
    ] {
        let parts = vec![file("a", b""), with_size("b", sort), file("hidden", b"")];
        add(name, open, "b", content, parts);
    }
    let records = extended(b'x', &record("comment", b"x"));
    let hard = vec![file("a", b""), records, with_size("b", b'1'), file("hidden", b"")];
    add("hard-link-with-content", open, "b", content, hard);
    let mut wrong = file("a", b"");
    wrong[148..156].copy_from_slice(b"000123\0 ");
    add("sum", open, "", "wanted the sum of the header's bytes", vec![first(), wrong]);

    // Members that are harmful only in use.
    let special = "it is a device, a FIFO or of an unknown kind";
    for (name, sort) in [("character", b'3'), ("block", b'4'), ("fifo", b'6')] {
        add(name, At::Use, "dev", special, vec![first(), link("dev", sort, "")]);
    }
    add(
        "unknown-kind",
        At::Use,
        "z",
        special,
        vec![file("ok", b""), header("z", b'Z', 0).to_vec()],
    );
    for (name, sort) in [("volume", b'V'), ("continued", b'M'), ("listing", b'D')] {
        add(name, At::Use, "v", special, vec![first(), header("v", sort, 0).to_vec()]);
    }
    let sparse = "sparse files in archives are not supported";
    add("sparse-gnu", At::Use, "s", sparse, vec![header("s", b'S', 0).to_vec()]);
    let records =
        [record("GNU.sparse.major", b"1"), record("GNU.sparse.realsize", b"999999999999")];
    let pax = vec![extended(b'x', &records.concat()), file("s", b"1")];
    add("sparse-pax", At::Use, "s", sparse, pax);
    // The map of GNU's own form goes on in further blocks.
    let mut mapped = header("s", b'S', 512);
    mapped[482] = 1;
    let (mut more, end) = ([0; BLOCK], [0; BLOCK]);
    more[504] = 1;
    let mapped = [&signed(mapped)[..], &more, &end, &filled(b"1")].concat();
    add("sparse-gnu-long", At::Use, "s", sparse, vec![mapped, first()]);
    let mut endless = header("s", b'S', 0);
    endless[482] = 1;
    let endless = [&signed(endless)[..], &more.repeat(2049)].concat();
    let long = "has 1049088 bytes, at most 1048576 are read";
    add("sparse-gnu-endless", open, "s", long, vec![first(), endless]);
    let keys: [(_, &[_]); 5] = [
        ("sparse-0.0", &["GNU.sparse.size", "GNU.sparse.numblocks", "GNU.sparse.offset"]),
        ("sparse-0.1", &["GNU.sparse.size", "GNU.sparse.numblocks", "GNU.sparse.map"]),
        ("sparse-1.0", &["GNU.sparse.major", "GNU.sparse.minor", "GNU.sparse.realsize"]),
        ("sparse-star", &["SCHILY.realsize"]),
        ("sparse-solaris", &["SUN.holesdata"]),
    ];
    for (name, keys) in keys {
        let records: Vec<u8> = keys.iter().flat_map(|key| record(key, b"1")).collect();
        add(name, At::Use, "s", sparse, vec![first(), extended(b'x', &records), file("s", b"1")]);
    }
    let named = [record("GNU.sparse.major", b"1"), record("GNU.sparse.name", b"../s")].concat();
    add("sparse-up", open, "../s", up, vec![extended(b'x', &named), file("s", b"1")]);
    let out = "it is a link that leads out of the archive";
    let links = [
        ("link-up", "a/l", "../../etc"),
        ("link-absolute", "a/l", "/etc/passwd"),
        ("link-through-a-link", "t", "a/b/s/.."),
        ("link-up-late", "a/l", "b/../../../etc"),
    ];
    for (name, path, target) in links {
        let inner = link("a/b/s", b'2', "../..");
        add(name, At::Extraction, path, out, vec![first(), inner, link(path, b'2', target)]);
    }
    let moved = vec![first(), link("a/l", b'2', "../checkpoint"), link("l", b'1', "a/l")];
    add("hard-link-moves-a-link", At::Extraction, "l", out, moved);
    all
}

/// Writes the sum of the header in front of a member.
fn resign(member: &mut [u8]) {
    let mut block = [0; BLOCK];
    block.copy_from_slice(&member[..BLOCK]);
    member[..BLOCK].copy_from_slice(&signed(block));
}

fn link(name: &str, sort: u8, target: &str) -> Vec<u8> {
    let mut block = header(name, sort, 0);
    block[157..157 + target.len()].copy_from_slice(target.as_bytes());
    signed(block).to_vec()
}

/// A name with a prefix that is longer than star's.
const STAR: &str = "pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp\
    pppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppppp/a";

/// Beginning of a name of 4,097 bytes.
const LONG: &str = "nnnn";
