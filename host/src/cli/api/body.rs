//! The body of a request, in pieces.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body, Bytes, Frame, SizeHint};

/// Bytes that are handed over at once.
const PIECE_BYTES: usize = 64 << 10;

/// A body of known length. It gives way after each piece, so that the connection reads in between: a host that refuses a
/// large body answers before it has taken all of it, and then closes the connection.
pub struct Pieces {
    left: Bytes,
    gave_way: bool,
}

impl Pieces {
    pub fn new(body: Vec<u8>) -> Pieces {
        Pieces { left: Bytes::from(body), gave_way: true }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut self.gave_way, false) {
            self.gave_way = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let piece = PIECE_BYTES.min(self.left.len());
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(piece)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[test]
    fn after_each_piece_it_gives_way() {
        let mut pieces = Pieces::new(vec![0; 2 * PIECE_BYTES]);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut polled: Vec<bool> = Vec::new();
        while !pieces.is_end_stream() {
            polled.push(Pin::new(&mut pieces).poll_frame(&mut context).is_ready());
        }
        assert!(polled.windows(2).all(|pair| pair != [true, true]), "{polled:?}");
    }

    #[tokio::test]
    async fn all_of_it_is_handed_over_in_order() {
        let body: Vec<u8> = (0..3 * PIECE_BYTES + 7).map(|n| n as u8).collect();
        let pieces = Pieces::new(body.clone());
        assert_eq!(pieces.size_hint().exact(), Some(body.len() as u64));
        assert_eq!(pieces.collect().await.unwrap().to_bytes(), body);
        assert!(Pieces::new(Vec::new()).is_end_stream());
    }
}
