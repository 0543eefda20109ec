//! Answers as Twirp writes protobuf-JSON: fields under their names in the protocol's definitions (`empty_timeout`, not
//! `emptyTimeout`), and all of them, those included that are empty or zero.
//!
//! The protocol's crate writes the other form, so the shape of every answer is listed here; a test compares the list
//! with what the crate reads.

use serde::Serialize;
use serde_json::{Map, Value};

/// One message: its fields and what each is.
pub(super) type Shape = &'static [(&'static str, Field)];

/// What a field is, as far as its empty value and what is inside of it go.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Text,
    Number,
    /// 64 bits, which JSON writes as text.
    Long,
    Flag,
    /// The name of the value that is 0.
    Enum(&'static str),
    /// Of what needs no renaming.
    List,
    /// Keys are the application's.
    Map,
    Message(Shape),
    Messages(Shape),
    /// One of several, of which only the one that is set is written.
    OneOf,
}

use Field::{Enum, Flag, List, Long, Message, Messages, Number, OneOf, Text};

pub(super) const EMPTY: Shape = &[];

pub(super) const ROOMS: Shape = &[("rooms", Messages(ROOM))];

pub(super) const ROOM: Shape = &[
    ("sid", Text),
    ("name", Text),
    ("empty_timeout", Number),
    ("departure_timeout", Number),
    ("max_participants", Number),
    ("creation_time", Long),
    ("creation_time_ms", Long),
    ("turn_password", Text),
    ("enabled_codecs", Messages(CODEC)),
    ("metadata", Text),
    ("num_participants", Number),
    ("num_publishers", Number),
    ("active_recording", Flag),
    ("version", Message(VERSION)),
];

const CODEC: Shape = &[("mime", Text), ("fmtp_line", Text)];

const VERSION: Shape = &[("unix_micro", Long), ("ticks", Number)];

pub(super) const PARTICIPANTS: Shape = &[("participants", Messages(PARTICIPANT))];

pub(super) const PARTICIPANT: Shape = &[
    ("sid", Text),
    ("identity", Text),
    ("state", Enum("JOINING")),
    ("tracks", Messages(TRACK)),
    ("metadata", Text),
    ("joined_at", Long),
    ("joined_at_ms", Long),
    ("name", Text),
    ("version", Number),
    ("permission", Message(PERMISSION)),
    ("region", Text),
    ("is_publisher", Flag),
    ("kind", Enum("STANDARD")),
    ("attributes", Field::Map),
    ("disconnect_reason", Enum("UNKNOWN_REASON")),
    ("kind_details", List),
    ("data_tracks", Messages(DATA_TRACK)),
    ("client_protocol", Number),
    ("capabilities", List),
];

const PERMISSION: Shape = &[
    ("can_subscribe", Flag),
    ("can_publish", Flag),
    ("can_publish_data", Flag),
    ("can_publish_sources", List),
    ("hidden", Flag),
    ("recorder", Flag),
    ("can_update_metadata", Flag),
    ("agent", Flag),
    ("can_subscribe_metrics", Flag),
    ("can_manage_agent_session", Flag),
];

pub(super) const MUTED: Shape = &[("track", Message(TRACK))];

const TRACK: Shape = &[
    ("sid", Text),
    ("type", Enum("AUDIO")),
    ("name", Text),
    ("muted", Flag),
    ("width", Number),
    ("height", Number),
    ("simulcast", Flag),
    ("disable_dtx", Flag),
    ("source", Enum("UNKNOWN")),
    ("layers", Messages(LAYER)),
    ("mime_type", Text),
    ("mid", Text),
    ("codecs", Messages(SIMULCAST_CODEC)),
    ("stereo", Flag),
    ("disable_red", Flag),
    ("encryption", Enum("NONE")),
    ("stream", Text),
    ("version", Message(VERSION)),
    ("audio_features", List),
    ("backup_codec_policy", Enum("PREFER_REGRESSION")),
    ("packet_trailer_features", List),
];

const DATA_TRACK: Shape = &[
    ("pub_handle", Number),
    ("sid", Text),
    ("name", Text),
    ("encryption", Enum("NONE")),
    ("frame_encoding", Message(ENCODING)),
    ("schema", Message(SCHEMA)),
];

/// Of frames or of a schema.
const ENCODING: Shape = &[("well_known", OneOf), ("custom", OneOf)];

const SCHEMA: Shape = &[("name", Text), ("encoding", Message(ENCODING))];

const LAYER: Shape = &[
    ("quality", Enum("LOW")),
    ("width", Number),
    ("height", Number),
    ("bitrate", Number),
    ("ssrc", Number),
    ("spatial_layer", Number),
    ("rid", Text),
    ("repair_ssrc", Number),
];

const SIMULCAST_CODEC: Shape = &[
    ("mime_type", Text),
    ("mid", Text),
    ("cid", Text),
    ("layers", Messages(LAYER)),
    ("video_layer_mode", Enum("MODE_UNUSED")),
    ("sdp_cid", Text),
];

pub(super) const DISPATCHES: Shape = &[("agent_dispatches", Messages(DISPATCH))];

pub(super) const DISPATCH: Shape = &[
    ("id", Text),
    ("agent_name", Text),
    ("room", Text),
    ("metadata", Text),
    ("state", Message(DISPATCH_STATE)),
    ("restart_policy", Enum("JRP_ON_FAILURE")),
    ("deployment", Text),
    ("attributes", Field::Map),
];

const DISPATCH_STATE: Shape = &[("jobs", Messages(JOB)), ("created_at", Long), ("deleted_at", Long)];

const JOB: Shape = &[
    ("id", Text),
    ("dispatch_id", Text),
    ("type", Enum("JT_ROOM")),
    ("room", Message(ROOM)),
    ("participant", Message(PARTICIPANT)),
    ("namespace", Text),
    ("metadata", Text),
    ("agent_name", Text),
    ("state", Message(JOB_STATE)),
    ("enable_recording", Flag),
    ("deployment", Text),
    ("attributes", Field::Map),
    ("enable_redaction", Flag),
];

const JOB_STATE: Shape = &[
    ("status", Enum("JS_PENDING")),
    ("error", Text),
    ("started_at", Long),
    ("ended_at", Long),
    ("updated_at", Long),
    ("participant_identity", Text),
    ("worker_id", Text),
    ("agent_id", Text),
];

pub(super) const RPC: Shape = &[("payload", Text)];

/// Writes a message of that shape.
pub(super) fn write(message: &impl Serialize, shape: Shape) -> serde_json::Result<Vec<u8>> {
    let value = serde_json::to_value(message)?;
    serde_json::to_vec(&full(value, shape))
}

fn full(value: Value, shape: Shape) -> Value {
    let mut given = match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    };
    let fields = shape.iter().filter_map(|(name, field)| {
        let value = match (given.remove(&camel(name)), field) {
            (None, OneOf) => return None,
            (None, field) => empty(*field),
            (Some(value), Message(shape)) => full(value, shape),
            (Some(Value::Array(list)), Messages(shape)) => {
                list.into_iter().map(|one| full(one, shape)).collect()
            }
            (Some(value), _) => value,
        };
        Some(((*name).to_owned(), value))
    });
    Value::Object(fields.collect())
}

fn empty(field: Field) -> Value {
    match field {
        Text => "".into(),
        Number => 0.into(),
        Long => "0".into(),
        Flag => false.into(),
        Enum(zero) => zero.into(),
        List | Messages(_) => Value::Array(Vec::new()),
        Field::Map => Value::Object(Map::new()),
        Message(_) | OneOf => Value::Null,
    }
}

/// A field's name in the JSON that the protocol's crate writes.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |mut camel, word| {
        let (initial, rest) = word.split_at(word.len().min(1));
        camel.push_str(&initial.to_ascii_uppercase());
        camel.push_str(rest);
        camel
    })
}

#[cfg(test)]
mod tests {
    use livekit_protocol as lk;
    use serde::de::{Deserialize, Deserializer, Visitor};

    use super::*;

    /// Asked for a struct, tells which fields it may have.
    struct Probe<'a>(&'a mut Vec<&'static str>);

    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = serde::de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
            visitor.visit_map(serde::de::value::MapDeserializer::<_, Self::Error>::new(std::iter::empty::<(
                &str,
                &str,
            )>()))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields);
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    fn is_complete<T: for<'de> Deserialize<'de>>(shape: Shape) {
        let mut known = Vec::new();
        T::deserialize(Probe(&mut known)).unwrap();
        // A field of two words is read under two names.
        let mut wanted: Vec<String> =
            shape.iter().flat_map(|(name, _)| [(*name).to_owned(), camel(name)]).collect();
        let mut known: Vec<String> = known.into_iter().map(str::to_owned).collect();
        for list in [&mut wanted, &mut known] {
            list.sort();
            list.dedup();
        }
        assert_eq!(wanted, known);
    }

    #[test]
    fn every_field_of_every_answer_is_listed() {
        is_complete::<lk::ListRoomsResponse>(ROOMS);
        is_complete::<lk::Room>(ROOM);
        is_complete::<lk::Codec>(CODEC);
        is_complete::<lk::TimedVersion>(VERSION);
        is_complete::<lk::ListParticipantsResponse>(PARTICIPANTS);
        is_complete::<lk::ParticipantInfo>(PARTICIPANT);
        is_complete::<lk::ParticipantPermission>(PERMISSION);
        is_complete::<lk::MuteRoomTrackResponse>(MUTED);
        is_complete::<lk::TrackInfo>(TRACK);
        is_complete::<lk::DataTrackInfo>(DATA_TRACK);
        is_complete::<lk::DataTrackFrameEncoding>(ENCODING);
        is_complete::<lk::DataTrackSchemaEncoding>(ENCODING);
        is_complete::<lk::DataTrackSchemaId>(SCHEMA);
        is_complete::<lk::VideoLayer>(LAYER);
        is_complete::<lk::SimulcastCodecInfo>(SIMULCAST_CODEC);
        is_complete::<lk::ListAgentDispatchResponse>(DISPATCHES);
        is_complete::<lk::AgentDispatch>(DISPATCH);
        is_complete::<lk::AgentDispatchState>(DISPATCH_STATE);
        is_complete::<lk::Job>(JOB);
        is_complete::<lk::JobState>(JOB_STATE);
        is_complete::<lk::PerformRpcResponse>(RPC);
        is_complete::<lk::DeleteRoomResponse>(EMPTY);
        is_complete::<lk::RemoveParticipantResponse>(EMPTY);
        is_complete::<lk::UpdateSubscriptionsResponse>(EMPTY);
        is_complete::<lk::SendDataResponse>(EMPTY);
    }

    #[test]
    #[expect(deprecated, reason = "all fields are written")]
    fn what_is_written_reads_as_what_it_was_and_an_empty_message_has_every_field() {
        let track = lk::TrackInfo {
            sid: "TR_VCx".into(),
            r#type: lk::TrackType::Video as i32,
            simulcast: true,
            source: lk::TrackSource::Camera as i32,
            layers: vec![lk::VideoLayer { quality: 2, spatial_layer: 2, ..Default::default() }],
            codecs: vec![lk::SimulcastCodecInfo { mime_type: "video/VP8".into(), ..Default::default() }],
            version: Some(lk::TimedVersion { unix_micro: 1 << 60, ticks: 3 }),
            audio_features: vec![lk::AudioTrackFeature::TfStereo as i32],
            ..Default::default()
        };
        let frame_encoding = lk::data_track_frame_encoding::Value::WellKnown(7);
        let encoding = lk::data_track_schema_encoding::Value::Custom("mine".into());
        let encoding = lk::DataTrackSchemaEncoding { value: Some(encoding) };
        let data_track = lk::DataTrackInfo {
            pub_handle: 3,
            frame_encoding: Some(lk::DataTrackFrameEncoding { value: Some(frame_encoding) }),
            schema: Some(lk::DataTrackSchemaId { name: String::new(), encoding: Some(encoding) }),
            ..Default::default()
        };
        let info = lk::ParticipantInfo {
            data_tracks: vec![data_track],
            identity: "ada".into(),
            state: lk::participant_info::State::Active as i32,
            joined_at: 1_800_000_000,
            tracks: vec![track],
            permission: Some(lk::ParticipantPermission { can_publish: true, ..Default::default() }),
            attributes: [("keptAsItIs".to_owned(), "x".to_owned())].into(),
            ..Default::default()
        };
        let text = write(&info, PARTICIPANT).unwrap();
        let json: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json["joined_at"], "1800000000", "64 bits are text");
        assert_eq!((&json["is_publisher"], &json["region"]), (&false.into(), &"".into()));
        assert_eq!(json["attributes"]["keptAsItIs"], "x", "not ours to rename");
        assert_eq!(json["tracks"][0]["layers"][0]["spatial_layer"], 2);
        assert_eq!(json["tracks"][0]["type"], "VIDEO");
        let data_track = &json["data_tracks"][0];
        assert_eq!((&data_track["encryption"], &data_track["pub_handle"]), (&"NONE".into(), &3.into()));
        let well_known = serde_json::json!({"well_known": "WELL_KNOWN_FRAME_ENCODING_JSON"});
        assert_eq!(data_track["frame_encoding"], well_known, "and no `custom` beside it");
        assert_eq!(data_track["schema"], serde_json::json!({"name": "", "encoding": {"custom": "mine"}}));
        let back: lk::ParticipantInfo = serde_json::from_slice(&text).unwrap();
        assert_eq!(back, info);

        let text = write(&lk::ParticipantInfo::default(), PARTICIPANT).unwrap();
        let json: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(json.as_object().unwrap().len(), PARTICIPANT.len());
        let rooms = write(&lk::ListRoomsResponse::default(), ROOMS).unwrap();
        assert_eq!(rooms, br#"{"rooms":[]}"#);
        // The names of zeros are those of the protocol.
        let text = String::from_utf8(text).unwrap();
        let full = write(&lk::TrackInfo::default(), TRACK).unwrap();
        assert!(serde_json::from_str::<lk::ParticipantInfo>(&text.replace("null", "{}")).is_ok());
        let full = String::from_utf8(full).unwrap().replace("null", "{}");
        assert!(serde_json::from_str::<lk::TrackInfo>(&full).is_ok(), "{full}");
    }
}
