//! A data track as it was announced, and why an announcement is refused.

use livekit_protocol::data_track_frame_encoding::{Value as FrameEncoding, WellKnownFrameEncoding};
use livekit_protocol::data_track_schema_encoding::{Value as SchemaEncoding, WellKnownSchemaEncoding};
use livekit_protocol::encryption;
use livekit_protocol::request_response::Reason;
use livekit_protocol::{DataTrackInfo, PublishDataTrackRequest};
use sfu::ids::{DataHandle, TrackId};

use super::participant::Seat;
use super::track::known;

// Bytes of texts, as the protocol's definitions have them.
const MAX_NAME: usize = 256;
const MAX_CUSTOM_ENCODING: usize = 32;
const MAX_SCHEMA_NAME: usize = 256;

/// One data track.
#[derive(Debug)]
pub(super) struct DataTrack {
    pub(super) id: TrackId,
    pub(super) owner: Seat,
    /// What its packets carry on their way up.
    pub(super) handle: DataHandle,
    /// As clients are told of it.
    pub(super) info: DataTrackInfo,
}

/// Why a data track is not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DataTrackError {
    /// The token does not allow it.
    #[error("publishing data is not permitted: the grant canPublishData is needed")]
    NotAllowed,
    #[error("pub_handle is {0}: a number from 1 to 65535 is right")]
    Handle(u32),
    #[error("name of {0} bytes: 1 to {MAX_NAME} are right")]
    Name(usize),
    /// Of the two that there are, SDKs know one; a receiver that meets the other stops reading.
    #[error("encryption is {0}: 0 (NONE) or 1 (GCM) is right")]
    Encryption(i32),
    #[error("{field} of {got} bytes: 1 to {limit} are right")]
    Length {
        /// Where it stands in the request.
        field: &'static str,
        got: usize,
        limit: usize,
    },
    #[error("pub_handle {0} is that of another data track of yours")]
    DuplicateHandle(u32),
    #[error("name is that of another data track of yours")]
    DuplicateName,
    /// Our own limit; an operator can raise it.
    #[error("a participant may have {0} data tracks")]
    TooMany(usize),
}

impl DataTrackError {
    /// As the client is told.
    pub(super) fn reason(&self) -> Reason {
        match self {
            DataTrackError::NotAllowed => Reason::NotAllowed,
            DataTrackError::Handle(_) => Reason::InvalidHandle,
            DataTrackError::Name(_) => Reason::InvalidName,
            DataTrackError::Encryption(_) | DataTrackError::Length { .. } => Reason::InvalidRequest,
            DataTrackError::DuplicateHandle(_) => Reason::DuplicateHandle,
            DataTrackError::DuplicateName => Reason::DuplicateName,
            DataTrackError::TooMany(_) => Reason::LimitExceeded,
        }
    }
}

/// Checks what an announcement says of itself.
pub(super) fn check(request: &PublishDataTrackRequest) -> Result<DataHandle, DataTrackError> {
    let handle = DataHandle::new(request.pub_handle).ok_or(DataTrackError::Handle(request.pub_handle))?;
    if !(1..=MAX_NAME).contains(&request.name.len()) {
        return Err(DataTrackError::Name(request.name.len()));
    }
    match encryption::Type::try_from(request.encryption) {
        Ok(encryption::Type::None | encryption::Type::Gcm) => {}
        Ok(encryption::Type::Custom) | Err(_) => return Err(DataTrackError::Encryption(request.encryption)),
    }
    if let Some(FrameEncoding::Custom(name)) = request.frame_encoding.as_ref().and_then(|e| e.value.as_ref())
    {
        check_length("frame_encoding.custom", name, MAX_CUSTOM_ENCODING)?;
    }
    if let Some(schema) = &request.schema {
        check_length("schema.name", &schema.name, MAX_SCHEMA_NAME)?;
        if let Some(SchemaEncoding::Custom(name)) = schema.encoding.as_ref().and_then(|e| e.value.as_ref()) {
            check_length("schema.encoding.custom", name, MAX_CUSTOM_ENCODING)?;
        }
    }
    Ok(handle)
}

fn check_length(field: &'static str, text: &str, limit: usize) -> Result<(), DataTrackError> {
    let got = text.len();
    if (1..=limit).contains(&got) { Ok(()) } else { Err(DataTrackError::Length { field, got, limit }) }
}

/// What clients are told of a track that was announced like this. An encoding of a later protocol has no name yet, and what has
/// no name cannot be written as JSON.
pub(super) fn info(sid: String, request: PublishDataTrackRequest) -> DataTrackInfo {
    let PublishDataTrackRequest { pub_handle, name, encryption, mut frame_encoding, mut schema } = request;
    if let Some(FrameEncoding::WellKnown(number)) = frame_encoding.as_mut().and_then(|e| e.value.as_mut()) {
        *number = known::<WellKnownFrameEncoding>(*number);
    }
    let encoding = schema.as_mut().and_then(|schema| schema.encoding.as_mut());
    if let Some(SchemaEncoding::WellKnown(number)) = encoding.and_then(|e| e.value.as_mut()) {
        *number = known::<WellKnownSchemaEncoding>(*number);
    }
    DataTrackInfo { pub_handle, sid, name, encryption, frame_encoding, schema }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::{DataTrackFrameEncoding, DataTrackSchemaEncoding, DataTrackSchemaId};

    use super::*;

    fn request() -> PublishDataTrackRequest {
        let frame_encoding = DataTrackFrameEncoding { value: Some(FrameEncoding::Custom("mine".into())) };
        let encoding = DataTrackSchemaEncoding { value: Some(SchemaEncoding::WellKnown(1)) };
        PublishDataTrackRequest {
            pub_handle: 1,
            name: "place".into(),
            encryption: encryption::Type::Gcm as i32,
            frame_encoding: Some(frame_encoding),
            schema: Some(DataTrackSchemaId { name: "Place".into(), encoding: Some(encoding) }),
        }
    }

    #[test]
    fn an_announcement_is_right_or_refused_with_what_would_be() {
        assert_eq!(check(&request()), Ok(DataHandle::new(1).unwrap()));
        let bare = PublishDataTrackRequest { frame_encoding: None, schema: None, ..request() };
        assert!(check(&bare).is_ok());
        let long = |length| "x".repeat(length);
        let custom_schema = |length| {
            let encoding = DataTrackSchemaEncoding { value: Some(SchemaEncoding::Custom(long(length))) };
            Some(DataTrackSchemaId { name: "Place".into(), encoding: Some(encoding) })
        };
        let custom_frame =
            |length| Some(DataTrackFrameEncoding { value: Some(FrameEncoding::Custom(long(length))) });
        let named_schema = |length| Some(DataTrackSchemaId { name: long(length), encoding: None });
        for (wrong, reason, says) in [
            (
                PublishDataTrackRequest { pub_handle: 0, ..request() },
                Reason::InvalidHandle,
                "pub_handle is 0",
            ),
            (
                PublishDataTrackRequest { pub_handle: 65_536, ..request() },
                Reason::InvalidHandle,
                "pub_handle is 65536: a number from 1 to 65535 is right",
            ),
            (PublishDataTrackRequest { name: long(0), ..request() }, Reason::InvalidName, "name of 0"),
            (PublishDataTrackRequest { name: long(257), ..request() }, Reason::InvalidName, "1 to 256"),
            (
                PublishDataTrackRequest { encryption: 2, ..request() },
                Reason::InvalidRequest,
                "encryption is 2",
            ),
            (PublishDataTrackRequest { encryption: -1, ..request() }, Reason::InvalidRequest, "GCM"),
            (
                PublishDataTrackRequest { frame_encoding: custom_frame(33), ..request() },
                Reason::InvalidRequest,
                "frame_encoding.custom of 33 bytes: 1 to 32",
            ),
            (
                PublishDataTrackRequest { schema: custom_schema(0), ..request() },
                Reason::InvalidRequest,
                "schema.encoding.custom of 0",
            ),
            (
                PublishDataTrackRequest { schema: named_schema(257), ..request() },
                Reason::InvalidRequest,
                "schema.name of 257",
            ),
        ] {
            let error = check(&wrong).expect_err(says);
            assert!(error.reason() == reason && error.to_string().contains(says), "{error}: {says}");
        }
        let longest = PublishDataTrackRequest {
            name: long(256),
            frame_encoding: custom_frame(32),
            schema: custom_schema(32),
            ..request()
        };
        assert!(check(&longest).is_ok());
    }

    #[test]
    fn what_was_announced_is_told_and_encodings_without_a_name_are_not() {
        let told = info("DTR_x".into(), request());
        assert_eq!((told.sid.as_str(), told.name.as_str(), told.encryption), ("DTR_x", "place", 1));
        assert_eq!((told.frame_encoding, told.schema), (request().frame_encoding, request().schema));
        let later = DataTrackFrameEncoding { value: Some(FrameEncoding::WellKnown(999)) };
        let told = info(String::new(), PublishDataTrackRequest { frame_encoding: Some(later), ..request() });
        let unspecified = WellKnownFrameEncoding::Unspecified as i32;
        assert_eq!(told.frame_encoding.unwrap().value, Some(FrameEncoding::WellKnown(unspecified)));
    }
}
