//! Responses that are encoded once and sent to every reader.
//!
//! The generated server would encode each response for each reader. A frame holds the mutations as the bytes that the
//! log shares, with the few bytes around them that are the reader's own.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use api::maintner::{WatchMutationsRequest, mutation_service_server::MutationServiceServer};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream::BoxStream;
use maintner::{Batch, ResumeToken};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, EncodeBuf, Encoder},
    server::{Grpc, NamedService, ServerStreamingService},
};
use tonic_prost::{ProstCodec, ProstDecoder};

use super::{MutationApi, stream::Item};

const WATCH_MUTATIONS: &str = "/farmer.maintner.v1.MutationService/WatchMutations";

/// `WatchMutationsResponse.batch`, `.checkpoint` and `.resume_token`: fields 1, 2 and 3, length-delimited.
const BATCH_TAG: u8 = 0x0a;
const CHECKPOINT_TAG: u8 = 0x12;
const TOKEN_TAG: u8 = 0x1a;
/// `Checkpoint.position`: field 1, a varint.
const POSITION_TAG: u8 = 0x08;

/// One encoded `WatchMutationsResponse`.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    head: Bytes,
    /// Shared with all who get the same mutations.
    mutations: Vec<Bytes>,
    tail: Bytes,
}

impl Frame {
    pub(crate) fn batch(batch: &Batch, token: ResumeToken) -> Self {
        let mut head = BytesMut::with_capacity(8);
        head.put_u8(BATCH_TAG);
        put_varint(&mut head, batch.len() as u64);
        Self { head: head.freeze(), mutations: batch.encoded().to_vec(), tail: encode_token(token) }
    }

    pub(crate) fn checkpoint(token: ResumeToken) -> Self {
        let mut position = BytesMut::new();
        if token.position > 0 {
            position.put_u8(POSITION_TAG);
            put_varint(&mut position, token.position);
        }
        let mut head = BytesMut::with_capacity(16);
        head.put_u8(CHECKPOINT_TAG);
        put_varint(&mut head, position.len() as u64);
        head.put_slice(&position);
        Self { head: head.freeze(), mutations: Vec::new(), tail: encode_token(token) }
    }

    fn parts(&self) -> impl Iterator<Item = &Bytes> {
        [&self.head].into_iter().chain(&self.mutations).chain([&self.tail])
    }

    /// All of it in one piece.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let mut whole = BytesMut::with_capacity(self.parts().map(Bytes::len).sum());
        self.parts().for_each(|part| whole.put_slice(part));
        whole.freeze()
    }
}

fn encode_token(token: ResumeToken) -> Bytes {
    let text = token.to_string();
    let mut tail = BytesMut::with_capacity(text.len() + 2);
    tail.put_u8(TOKEN_TAG);
    put_varint(&mut tail, text.len() as u64);
    tail.put_slice(text.as_bytes());
    tail.freeze()
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The generated server, but for the one call that has many readers.
#[derive(Clone)]
pub(crate) struct SharedFrames {
    api: MutationApi,
    rest: MutationServiceServer<MutationApi>,
}

impl SharedFrames {
    pub(crate) fn new(api: MutationApi) -> Self {
        let rest = MutationServiceServer::new(api.clone()).max_decoding_message_size(rpc::MAX_MESSAGE);
        Self { api, rest }
    }
}

impl NamedService for SharedFrames {
    const NAME: &'static str = <MutationServiceServer<MutationApi> as NamedService>::NAME;
}

impl tower::Service<http::Request<Body>> for SharedFrames {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != WATCH_MUTATIONS {
            return tower::Service::call(&mut self.rest, request);
        }
        let watch = Watch(self.api.clone());
        Box::pin(async move { Ok(Grpc::new(FrameCodec).server_streaming(watch, request).await) })
    }
}

struct Watch(MutationApi);

impl ServerStreamingService<WatchMutationsRequest> for Watch {
    type Response = Frame;
    type ResponseStream = BoxStream<'static, Item>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<WatchMutationsRequest>) -> Self::Future {
        std::future::ready(self.0.watch(request.get_ref()).map(Response::new))
    }
}

#[derive(Debug, Clone, Copy)]
struct FrameCodec;

impl Codec for FrameCodec {
    type Encode = Frame;
    type Decode = WatchMutationsRequest;
    type Encoder = FrameEncoder;
    type Decoder = ProstDecoder<WatchMutationsRequest>;

    fn encoder(&mut self) -> FrameEncoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<WatchMutationsRequest, WatchMutationsRequest>::default().decoder()
    }
}

#[derive(Debug)]
struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = Frame;
    type Error = Status;

    fn encode(&mut self, frame: Frame, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(frame.parts().map(Bytes::len).sum());
        frame.parts().for_each(|part| out.put_slice(part));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use api::{
        maintner::{Checkpoint, MutationBatch, WatchMutationsResponse, watch_mutations_response::Event},
        maintpb::{GithubMutation, Mutation},
    };
    use maintner::log::{BatchBuilder, encode};
    use prost::Message as _;

    use super::*;

    fn token(position: u64) -> ResumeToken {
        ResumeToken { history: "00112233445566778899aabbccddeeff".parse().unwrap(), position }
    }

    #[test]
    fn a_frame_is_what_the_generated_code_would_write() {
        let owner = |owner: &str| GithubMutation { owner: owner.into(), ..Default::default() };
        let mutations: Vec<Mutation> = ["golang", "rust-lang"]
            .map(|name| Mutation { github: Some(owner(name)), ..Default::default() })
            .into();
        let mut builder = BatchBuilder::new(7);
        for mutation in &mutations {
            builder.push(&encode(mutation));
        }
        let expected = WatchMutationsResponse {
            event: Some(Event::Batch(MutationBatch { mutations })),
            resume_token: token(9).to_string(),
        };
        assert_eq!(Frame::batch(&builder.build(), token(9)).to_bytes(), expected.encode_to_vec());
        for position in [0, 1, 127, 128, 300, u64::MAX] {
            let expected = WatchMutationsResponse {
                event: Some(Event::Checkpoint(Checkpoint { position })),
                resume_token: token(position).to_string(),
            };
            assert_eq!(Frame::checkpoint(token(position)).to_bytes(), expected.encode_to_vec());
        }
    }
}
