//! The socket beneath a connection, which can be left alone for a while.
//!
//! A batch of statements is answered by one small packet for each of them, and every packet that comes to a socket
//! that is watched wakes this process: on a machine that it shares with the server, time that the server lacks.
//! Where many answers are due, [`Rest`] says for how long there is no need to look: the socket is taken out of the
//! reactor, the kernel gathers what comes, and it is all read at once afterwards.
//!
//! The time is the reader's guess. Guessed too long, what has come waits; nothing else hangs on it.

use std::future::Future;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

/// What is read at once from an unwatched stream.
const READ_NOW: usize = 4 << 10;

/// For how long the next wait for input need not look; shared by the socket and whoever reads from it, with
/// whatever lies between (TLS).
#[derive(Clone, Default)]
pub(super) struct Rest(Arc<AtomicU64>);

impl Rest {
    pub(super) fn set(&self, rest: Duration) {
        self.0.store(u64::try_from(rest.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn take(&self) -> Option<Duration> {
        Some(self.0.swap(0, Ordering::Relaxed)).filter(|&rest| rest > 0).map(Duration::from_micros)
    }
}

/// A non-blocking stream, watched by the reactor or not.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    UnwatchedTcp(std::net::TcpStream),
    UnwatchedUnix(std::os::unix::net::UnixStream),
    /// It could not be moved from one to the other.
    Gone,
}

pub(super) struct Socket {
    stream: Stream,
    rest: Rest,
    resting: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn tcp(stream: TcpStream) -> Socket {
        Socket { stream: Stream::Tcp(stream), rest: Rest::default(), resting: None }
    }

    pub(super) fn unix(stream: UnixStream) -> Socket {
        Socket { stream: Stream::Unix(stream), rest: Rest::default(), resting: None }
    }

    pub(super) fn rest(&self) -> Rest {
        self.rest.clone()
    }

    /// Has the reactor look after it.
    fn watch(&mut self) -> io::Result<()> {
        self.stream = match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::UnwatchedTcp(stream) => Stream::Tcp(TcpStream::from_std(stream)?),
            Stream::UnwatchedUnix(stream) => Stream::Unix(UnixStream::from_std(stream)?),
            watched => watched,
        };
        Ok(())
    }

    fn unwatch(&mut self) -> io::Result<()> {
        self.stream = match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Tcp(stream) => Stream::UnwatchedTcp(stream.into_std()?),
            Stream::Unix(stream) => Stream::UnwatchedUnix(stream.into_std()?),
            unwatched => unwatched,
        };
        Ok(())
    }

    /// Reads what an unwatched stream has. A watched one is the reactor's to read.
    fn read_now(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        // What is read into must be initialised, and answers are small.
        let room = buf.remaining().min(READ_NOW);
        let read = match &mut self.stream {
            Stream::UnwatchedTcp(stream) => stream.read(buf.initialize_unfilled_to(room)),
            Stream::UnwatchedUnix(stream) => stream.read(buf.initialize_unfilled_to(room)),
            _ => return Err(ErrorKind::WouldBlock.into()),
        }?;
        buf.advance(read);
        Ok(())
    }

    fn write_now(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::UnwatchedTcp(stream) => stream.write_vectored(slices),
            Stream::UnwatchedUnix(stream) => stream.write_vectored(slices),
            _ => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

/// What is to be tried again at once, or waited for.
fn is_for_later(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn gone() -> io::Error {
    io::Error::other("the socket could not be handed to the reactor")
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(rest) = self.rest.take() {
            self.unwatch()?;
            self.resting = Some(Box::pin(sleep(rest)));
        }
        if let Some(resting) = &mut self.resting {
            ready!(resting.as_mut().poll(context));
            self.resting = None;
        }
        match self.read_now(buf) {
            Err(error) if is_for_later(&error) => self.watch()?,
            read => return Poll::Ready(read),
        }
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(context, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(context, buf),
            _ => Poll::Ready(Err(gone())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    /// TLS writes its records so.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.write_now(slices) {
            Err(error) if is_for_later(&error) => self.watch()?,
            written => return Poll::Ready(written),
        }
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Stream::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            _ => Poll::Ready(Err(gone())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The kernel has everything that was written.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Stream::UnwatchedTcp(stream) => Poll::Ready(stream.shutdown(Shutdown::Write)),
            Stream::UnwatchedUnix(stream) => Poll::Ready(stream.shutdown(Shutdown::Write)),
            Stream::Gone => Poll::Ready(Err(gone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const REST: Duration = Duration::from_millis(30);

    async fn pairs() -> Vec<(Socket, Box<dyn crate::mysql::wire::Transport>)> {
        let (a, b) = UnixStream::pair().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let c = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (d, _) = listener.accept().await.unwrap();
        vec![(Socket::unix(a), Box::new(b)), (Socket::tcp(c), Box::new(d))]
    }

    #[tokio::test]
    async fn what_comes_during_a_rest_is_read_behind_it_and_all_at_once() {
        for (mut socket, mut peer) in pairs().await {
            let rest = socket.rest();
            for round in 0..3 {
                let began = Instant::now();
                rest.set(REST);
                for byte in b"abc" {
                    peer.write_all(&[*byte]).await.unwrap();
                }
                let mut read = [0; 8];
                assert_eq!(socket.read(&mut read).await.unwrap(), 3, "round {round}");
                assert!(began.elapsed() >= REST);
            }
        }
    }

    #[tokio::test]
    async fn what_comes_later_than_a_rest_is_waited_for() {
        for (mut socket, mut peer) in pairs().await {
            for byte in 1..4 {
                socket.rest().set(Duration::from_millis(1));
                let late = async {
                    tokio::time::sleep(REST).await;
                    peer.write_all(&[byte]).await.unwrap();
                };
                assert_eq!(tokio::join!(socket.read_u8(), late).0.unwrap(), byte);
            }
        }
    }

    #[tokio::test]
    async fn more_than_the_kernel_holds_is_written_behind_a_rest_too() {
        for (mut socket, mut peer) in pairs().await {
            socket.rest().set(Duration::from_millis(1));
            peer.write_all(b"a").await.unwrap();
            assert_eq!(socket.read_u8().await.unwrap(), b'a');
            let sent = vec![7; 8 << 20];
            let mut received = vec![0; sent.len()];
            let (written, read) = tokio::join!(socket.write_all(&sent), peer.read_exact(&mut received));
            written.unwrap();
            read.unwrap();
            assert!(received == sent);
            drop(peer);
            socket.rest().set(Duration::from_millis(1));
            assert_eq!(socket.read(&mut [0; 8]).await.unwrap(), 0, "the end is seen");
        }
    }
}
