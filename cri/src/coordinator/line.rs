//! A connection between a coordinator and a member, with or without TLS.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::error::CoordinatorError;

/// A connection whose calls do not wait.
#[derive(Debug)]
pub(super) enum Line {
    Plain(TcpStream),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Line {
    /// A coordinator's end.
    pub(super) fn accepted(
        socket: TcpStream,
        tls: Option<&Arc<ServerConfig>>,
    ) -> Result<Self, CoordinatorError> {
        prepare(&socket)?;
        let Some(tls) = tls else { return Ok(Self::Plain(socket)) };
        let connection = ServerConnection::new(Arc::clone(tls));
        let connection =
            connection.map_err(|error| CoordinatorError::Invalid(error.to_string()))?;
        Ok(Self::Server(Box::new(StreamOwned::new(connection, socket))))
    }

    /// A member's end.
    pub(super) fn connected(
        socket: TcpStream,
        tls: Option<&(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> Result<Self, CoordinatorError> {
        prepare(&socket)?;
        let Some((tls, name)) = tls else { return Ok(Self::Plain(socket)) };
        let connection = ClientConnection::new(Arc::clone(tls), name.clone());
        let connection =
            connection.map_err(|error| CoordinatorError::Invalid(error.to_string()))?;
        Ok(Self::Client(Box::new(StreamOwned::new(connection, socket))))
    }

    pub(super) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Server(stream) => stream.get_ref(),
            Self::Client(stream) => stream.get_ref(),
        }
    }

    /// Returns the certificate of the other end, once both ends have agreed on keys.
    pub(super) fn certificate(&self) -> Option<&rustls::pki_types::CertificateDer<'static>> {
        match self {
            Self::Plain(_) => None,
            Self::Server(stream) => stream.conn.peer_certificates()?.first(),
            Self::Client(stream) => stream.conn.peer_certificates()?.first(),
        }
    }

    /// Returns `true` if bytes of TLS wait to be sent.
    pub(super) fn wants_write(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Server(stream) => stream.conn.wants_write(),
            Self::Client(stream) => stream.conn.wants_write(),
        }
    }

    /// Tells the other end that nothing follows.
    pub(super) fn finish(&mut self) {
        match self {
            Self::Plain(_) => {}
            Self::Server(stream) => stream.conn.send_close_notify(),
            Self::Client(stream) => stream.conn.send_close_notify(),
        }
        let _ = self.flush();
        let _ = self.socket().shutdown(Shutdown::Write);
    }
}

impl Read for Line {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Server(stream) => stream.read(buffer),
            Self::Client(stream) => stream.read(buffer),
        }
        .map_err(explained)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Server(stream) => stream.write(bytes),
            Self::Client(stream) => stream.write(bytes),
        }
        .map_err(explained)
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Server(stream) => stream.flush(),
            Self::Client(stream) => stream.flush(),
        }
        .map_err(explained)
    }
}

fn prepare(socket: &TcpStream) -> Result<(), CoordinatorError> {
    let prepared = socket.set_nonblocking(true).and_then(|()| socket.set_nodelay(true));
    prepared.map_err(CoordinatorError::system("set up a connection"))
}

/// Says whose certificate an alert of TLS is about, which the alert's name does not.
fn explained(error: io::Error) -> io::Error {
    let alert = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match alert {
        Some(rustls::Error::AlertReceived(alert)) => {
            let why = format!("the other end refuses TLS with this end: {alert:?}");
            io::Error::new(error.kind(), why)
        }
        _ => error,
    }
}
