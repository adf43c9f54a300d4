//! Numbers of the messages that two decoders are compared on.

use criu_images::schema::Message;

/// The number of a message.
pub fn place(name: &str) -> Option<u16> {
    u16::try_from(NAMES.iter().position(|known| *known == name)?).ok()
}

/// The description of the message that an input begins with the number of. Every number is of one.
pub fn schema(place: u16) -> Option<&'static Message> {
    Message::by_name(NAMES[usize::from(place) % NAMES.len()])
}

macro_rules! names {
    ($($name:literal $type:ident $module:ident $theirs:ident;)*) => {
        const NAMES: &[&str] = &[$($name),*];
    };
}
criu_fuzz_second::messages!(names);
