//! Messages whose bytes are passed on or walked over instead of being decoded into a tree.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::{
    Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::refusal::{Reason, Refusal};

/// The bytes of one message, undecoded.
#[derive(Clone, Debug, Default)]
pub struct Frame(pub Bytes);

/// A server's codec: requests come in as frames, responses go out as messages.
#[derive(Debug)]
pub struct FrameIn<T>(PhantomData<fn() -> T>);

/// A client's codec: requests go out as frames, responses come in as messages.
#[derive(Debug)]
pub struct FrameOut<T>(PhantomData<fn() -> T>);

impl<T> Default for FrameIn<T> {
    fn default() -> FrameIn<T> {
        FrameIn(PhantomData)
    }
}

impl<T> Default for FrameOut<T> {
    fn default() -> FrameOut<T> {
        FrameOut(PhantomData)
    }
}

impl<T: Message + 'static> Codec for FrameIn<T> {
    type Encode = T;
    type Decode = Frame;
    type Encoder = Typed<T>;
    type Decoder = Raw;

    fn encoder(&mut self) -> Typed<T> {
        Typed(PhantomData)
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl<T: Message + Default + 'static> Codec for FrameOut<T> {
    type Encode = Frame;
    type Decode = T;
    type Encoder = Raw;
    type Decoder = Typed<T>;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Typed<T> {
        Typed(PhantomData)
    }
}

/// Encodes and decodes frames.
#[derive(Clone, Copy, Debug, Default)]
pub struct Raw;

impl Encoder for Raw {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, item: Frame, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item.0);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Frame;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Frame>, Status> {
        Ok(Some(Frame(from.copy_to_bytes(from.remaining()))))
    }
}

/// Encodes and decodes one kind of message.
#[derive(Clone, Copy, Debug)]
pub struct Typed<T>(PhantomData<fn() -> T>);

impl<T: Message> Encoder for Typed<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.encode(to)
            .map_err(|_| Refusal::new(Reason::Internal, "The message does not fit its buffer.").into())
    }
}

impl<T: Message + Default> Decoder for Typed<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        let decoded = T::decode(from);
        decoded.map(Some).map_err(|fault| {
            Refusal::new(Reason::MessageMalformed, format!("The answer cannot be read: {fault}.")).into()
        })
    }
}
