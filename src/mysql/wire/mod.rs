//! MySQL's client protocol on a socket: packets in and out. `handshake` and `auth` open the connection, `reply`
//! reads what a statement answers, `rows` a result too large to be held.
//!
//! It exists beside `mysql_async` because the binlog connection must hold no more than one event and must not
//! have payloads unpacked on the way, and because statements can be sent here without waiting for the answer to
//! the one before: `queue` many, `flush`, then read that many replies.
//!
//! `chunk` is cancel-safe: what has arrived stays in the connection when the future is dropped. Sending and
//! `reply` are not; a connection that was left in the middle, or met an error, is not used again. Layout: "Protocol Basics" and "Connection Phase" of the MySQL source documentation.

mod auth;
mod fields;
mod handshake;
mod reply;
mod rows;
mod socket;

use std::borrow::Cow;
use std::collections::VecDeque;
use std::iter;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{Error, Kind, Result};

pub use reply::{Done, Reply, ServerError};
pub use rows::RowSink;
use socket::{Rest, Socket};

/// Commands of the protocol that we send.
pub mod command {
    pub const QUIT: u8 = 0x01;
    pub const QUERY: u8 = 0x03;
    pub const PING: u8 = 0x0e;
    pub const BINLOG_DUMP_GTID: u8 = 0x1e;
}

/// A packet of this length is continued in the next one.
const FULL_PACKET: usize = 0xff_ffff;
/// What is asked of the socket at once.
const READ_SIZE: usize = 64 * 1024;

/// A byte stream to a server: TCP, TLS over TCP, or a Unix socket.
trait Transport: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Transport for T {}

/// An open, authenticated connection.
pub struct Wire {
    io: Box<dyn Transport>,
    rest: Rest,
    /// `user@host:port`, for messages.
    peer: String,
    /// Whether nobody can listen: TLS, or a Unix socket.
    is_tls: bool,
    is_socket: bool,
    server_version: String,
    connection_id: u32,
    /// How long the server may be silent when something is expected of it.
    patience: Option<Duration>,
    /// Arrived and not yet consumed.
    input: BytesMut,
    frame: Option<Frame>,
    sequence_in: u8,
    sequence_out: u8,
    /// Queued and not yet sent.
    output: Vec<u8>,
    /// With which number the answer to each command that awaits one begins.
    answers: VecDeque<u8>,
    /// The next reply belongs to the same query as the last one.
    has_more: bool,
}

/// The packet (of perhaps several that make up one payload) that is being read.
#[derive(Clone, Copy)]
struct Frame {
    left: usize,
    is_last: bool,
}

impl Wire {
    fn new(socket: Socket, peer: String, is_socket: bool) -> Wire {
        Wire {
            rest: socket.rest(),
            io: Box::new(socket),
            peer,
            is_tls: false,
            is_socket,
            server_version: String::new(),
            connection_id: 0,
            patience: None,
            input: BytesMut::new(),
            frame: None,
            sequence_in: 0,
            sequence_out: 0,
            output: Vec::new(),
            answers: VecDeque::new(),
            has_more: false,
        }
    }

    /// As the server prints it, e.g. `9.7.4-2`.
    pub fn server_version(&self) -> &str {
        &self.server_version
    }

    /// What the server's processlist calls this connection; `KILL` takes it.
    pub fn connection_id(&self) -> u32 {
        self.connection_id
    }

    /// `user@host:port`.
    pub fn peer(&self) -> &str {
        &self.peer
    }

    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// How long the server may be silent while an answer is due; `None` (from the start): for ever.
    pub fn set_patience(&mut self, patience: Option<Duration>) {
        self.patience = patience;
    }

    /// Has the next wait for input look only after this time.
    pub fn rest(&self, time: Duration) {
        self.rest.set(time);
    }

    /// Whether something has arrived that no reply has taken yet.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Puts a command into the output, to be sent by `flush`.
    pub fn queue(&mut self, command: u8, body: &[u8]) {
        self.sequence_out = 0;
        let first = body.len().min(FULL_PACKET - 1);
        self.put_header(first + 1);
        self.output.push(command);
        self.output.extend_from_slice(&body[..first]);
        if first + 1 == FULL_PACKET {
            self.put_payload(&body[first..]);
        }
        self.answers.push_back(self.sequence_out);
    }

    /// Sends what has been queued.
    pub async fn flush(&mut self) -> Result<()> {
        let sent = async {
            self.io.write_all(&self.output).await?;
            self.io.flush().await
        };
        sent.await.map_err(|e| broken(&self.peer, "write").caused_by(e))?;
        self.output.clear();
        Ok(())
    }

    /// Sends a command; its answer is read next.
    pub async fn send(&mut self, command: u8, body: &[u8]) -> Result<()> {
        self.queue(command, body);
        self.flush().await
    }

    /// Sends a command whose body comes in blocks, of so many bytes together. A server that refuses it while it is sent
    /// (it is too large) ends the connection.
    pub async fn send_blocks(
        &mut self,
        command: u8,
        len: usize,
        blocks: impl Iterator<Item = Cow<'_, [u8]>>,
    ) -> Result<()> {
        self.sequence_out = 0;
        // Of the payload, beyond the packets that have been begun; of the last of those; and its length.
        let (mut beyond, mut room, mut packet) = (len + 1, 0, FULL_PACKET);
        let first: Cow<'_, [u8]> = Cow::Owned(vec![command]);
        for block in iter::once(first).chain(blocks) {
            let mut block = &block[..];
            while !block.is_empty() {
                if room == 0 {
                    packet = beyond.min(FULL_PACKET);
                    self.put_header(packet);
                    (beyond, room) = (beyond - packet, packet);
                }
                let (part, rest) = block.split_at(block.len().min(room));
                self.output.extend_from_slice(part);
                (block, room) = (rest, room - part.len());
                if self.output.len() >= READ_SIZE {
                    self.flush().await?;
                }
                if room == 0 && beyond == 0 && !block.is_empty() {
                    return Err(self.garbled("a command longer than was said"));
                }
            }
        }
        if beyond > 0 || room > 0 {
            return Err(self.garbled("a command shorter than was said"));
        }
        if packet == FULL_PACKET {
            self.put_header(0);
        }
        self.answers.push_back(self.sequence_out);
        self.flush().await
    }

    /// What is read from here on answers the next command: its packets are counted on from the command's own.
    pub(in crate::mysql) fn begin_answer(&mut self) {
        self.sequence_in = self.answers.pop_front().unwrap_or(1);
    }

    /// Says goodbye, so that the server does not count an aborted client. A failure changes nothing any more.
    pub async fn close(mut self) {
        self.queue(command::QUIT, b"");
        let _ = self.flush().await;
    }

    /// Sends a payload that continues an exchange, as the login does: both sides count in one row.
    async fn send_payload(&mut self, payload: &[u8]) -> Result<()> {
        self.sequence_out = self.sequence_in;
        self.put_payload(payload);
        self.sequence_in = self.sequence_out;
        self.flush().await
    }

    fn put_payload(&mut self, mut payload: &[u8]) {
        loop {
            let (part, rest) = payload.split_at(payload.len().min(FULL_PACKET));
            self.put_header(part.len());
            self.output.extend_from_slice(part);
            // A payload that ends with a full packet is closed by an empty one.
            if part.len() < FULL_PACKET {
                return;
            }
            payload = rest;
        }
    }

    fn put_header(&mut self, len: usize) {
        self.output.extend_from_slice(&(len as u32).to_le_bytes()[..3]);
        self.output.push(self.sequence_out);
        self.sequence_out = self.sequence_out.wrapping_add(1);
    }

    /// How many bytes of the payload that is being read are there to `consume`; none at its end.
    pub(in crate::mysql) async fn chunk(&mut self) -> Result<usize> {
        loop {
            match self.frame {
                Some(Frame { left: 0, is_last: true }) => {
                    self.frame = None;
                    return Ok(0);
                }
                Some(Frame { left: 1.., .. }) => {
                    self.fill(1).await?;
                    let left = self.frame.map_or(0, |frame| frame.left);
                    return Ok(left.min(self.input.len()));
                }
                None | Some(Frame { left: 0, is_last: false }) => {
                    self.fill(4).await?;
                    let header = self.input.get_u32_le();
                    let (len, sequence) = ((header & 0xff_ffff) as usize, (header >> 24) as u8);
                    if sequence != self.sequence_in {
                        return Err(self
                            .garbled(format_args!("packet {sequence} where {} was due", self.sequence_in)));
                    }
                    self.sequence_in = self.sequence_in.wrapping_add(1);
                    self.frame = Some(Frame { left: len, is_last: len < FULL_PACKET });
                }
            }
        }
    }

    /// Takes bytes that `chunk` has announced.
    pub(in crate::mysql) fn consume(&mut self, len: usize) -> BytesMut {
        if let Some(frame) = &mut self.frame {
            frame.left -= len;
        }
        self.input.split_to(len)
    }

    /// A whole payload. What has been read of it is lost if the future is dropped.
    async fn payload(&mut self) -> Result<Vec<u8>> {
        let mut payload = Vec::new();
        loop {
            match self.chunk().await? {
                0 => return Ok(payload),
                len => payload.extend_from_slice(&self.consume(len)),
            }
        }
    }

    /// Waits until this many bytes have arrived.
    async fn fill(&mut self, len: usize) -> Result<()> {
        while self.input.len() < len {
            self.input.reserve(READ_SIZE);
            let reading = self.io.read_buf(&mut self.input);
            let read = match self.patience {
                None => reading.await,
                Some(patience) => match tokio::time::timeout(patience, reading).await {
                    Ok(read) => read,
                    Err(_) => {
                        let silence = format!("{}: no word for {} s", self.peer, patience.as_secs());
                        return Err(Error::new(Kind::Mysql, silence)
                            .hint("the server hangs or the network is cut; the next run carries on"));
                    }
                },
            };
            match read {
                Ok(0) => {
                    return Err(broken(&self.peer, "read").caused_by("the server closed the connection"));
                }
                Ok(_) => {}
                Err(e) => return Err(broken(&self.peer, "read").caused_by(e)),
            }
        }
        Ok(())
    }

    fn garbled(&self, what: impl std::fmt::Display) -> Error {
        Error::new(Kind::Mysql, format!("{}: not MySQL's protocol: {what}", self.peer))
    }
}

fn broken(peer: &str, doing: &str) -> Error {
    Error::new(Kind::Mysql, format!("{doing} on the connection to {peer}"))
        .hint("the server went away or ended the connection: its error log says why")
}
