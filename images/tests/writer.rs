//! The input that the writer refuses. `kitchen.rs` compares real images with those it writes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use criu_images::proto::{
    GhostChunkEntry, GhostFileEntry, IpcMsg, IpcMsgEntry, IpcSemEntry, PagemapEntry, PagemapHead,
    PipeDataEntry, TcpStreamEntry, UtsnsEntry,
};
use criu_images::{Image, ImageWriter, Payload, kind};

#[test]
fn what_does_not_belong_together_is_refused_and_not_written() {
    let mut writer = ImageWriter::new(kind::PIPES_DATA, Vec::new()).unwrap();
    let entry = PipeDataEntry { pipe_id: 1, bytes: 2, size: None };
    for (payload, said) in [
        (Payload::Bytes(b"abc"), "pipes-data.img: is 0x3, wanted as many bytes as the entry says"),
        (Payload::None, "pipes-data.img: does not go with what is to follow its entry"),
        (Payload::Tcp { inq: b"a", outq: b"b" }, "pipes-data.img: does not go with"),
    ] {
        let error = writer.entry(&entry, &payload).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    let error = writer.entry(&UtsnsEntry::default(), &Payload::None).unwrap_err().to_string();
    assert_eq!(error, "pipes-data.img: messages of another kind of image are not supported");
    let error = writer.raw(&[0x08, 1], &Payload::Bytes(b"")).unwrap_err().to_string();
    assert_eq!(error, "pipes-data.img: byte 0: pipe_data_entry.bytes: is required and absent");
    assert_eq!(writer.finish().unwrap().len(), 8);

    let error = ImageWriter::new(kind::PAGES, Vec::new()).unwrap_err().to_string();
    assert_eq!(error, "pages-{}.img: raw images are not supported");
    let error = ImageWriter::new(kind::UTSNS, Vec::new()).unwrap().finish().unwrap_err();
    assert_eq!(error.to_string(), "utsns-{}.img: has 0 entries, wanted 1");
}

#[test]
fn images_of_several_messages_and_what_follows_them_come_back() {
    let mut pagemap = ImageWriter::new(kind::PAGEMAP, Vec::new()).unwrap();
    pagemap.entry(&PagemapHead { pages_id: 1 }, &Payload::None).unwrap();
    pagemap.entry(&PagemapEntry::default(), &Payload::None).unwrap();
    assert!(pagemap.entry(&PagemapHead { pages_id: 1 }, &Payload::None).is_err());

    let mut ghost = ImageWriter::new(kind::GHOST_FILE, Vec::new()).unwrap();
    let head = GhostFileEntry { chunks: Some(true), ..Default::default() };
    ghost.entry(&head, &Payload::None).unwrap();
    ghost.entry(&GhostChunkEntry { len: 2, off: 9 }, &Payload::Bytes(b"ab")).unwrap();
    let bytes = ghost.finish().unwrap();
    let mut image = Image::parse("ghost-file-1.img", &bytes, kind::GHOST_FILE).unwrap();
    image.next_entry().unwrap().unwrap();
    let chunk = image.next_entry().unwrap().unwrap();
    assert_eq!(image.payload(&chunk).unwrap(), Payload::Bytes(b"ab"));

    let message = IpcMsg { mtype: 3, msize: 5 };
    let several = Payload::Messages(vec![(message, b"hello"), (message, b"world")]);
    let values = Payload::Semaphores(vec![1, 2, 3]);
    let queues = Payload::Tcp { inq: b"in", outq: b"out" };
    let queue = IpcMsgEntry { qnum: 2, ..Default::default() };
    let set = IpcSemEntry { nsems: 3, ..Default::default() };
    let stream = TcpStreamEntry { inq_len: 2, outq_len: 3, ..Default::default() };
    let written = [
        (kind::IPCNS_MSG, one(kind::IPCNS_MSG, &queue, &several), several),
        (kind::IPCNS_SEM, one(kind::IPCNS_SEM, &set, &values), values),
        (kind::TCP_STREAM, one(kind::TCP_STREAM, &stream, &queues), queues),
    ];
    for (kind, bytes, payload) in written {
        let mut image = Image::parse("image", &bytes, kind).unwrap();
        let entry = image.next_entry().unwrap().unwrap();
        assert_eq!(image.payload(&entry).unwrap(), payload);
        assert!(image.next_entry().unwrap().is_none());
    }
}

fn one<M: criu_images::schema::Entry>(
    kind: &'static kind::Kind,
    message: &M,
    payload: &Payload<'_>,
) -> Vec<u8> {
    let mut writer = ImageWriter::new(kind, Vec::new()).unwrap();
    writer.entry(message, payload).unwrap();
    writer.finish().unwrap()
}
