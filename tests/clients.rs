//! The whole server against the clients of others: Chromium and Firefox with livekit-client, the Python SDK, the SDKs of applications'
//! servers, and clients that mean no good.
//!
//! Run by `cargo xtask ci`, which installs what is needed; by hand: `cargo test --release --test clients`. Each
//! test starts a server of its own on free ports, and no two run at once. Browsers and SDKs are driven by
//! `driver.mjs` and `sdk.py`, which do as they are told and report what they see; every judgement is here.
//! Tests of bad networks need root, for network namespaces. A missing program fails the test.

#[path = "clients/harness/mod.rs"]
mod harness;

#[path = "clients/abuse.rs"]
mod abuse;
#[path = "clients/agents.rs"]
mod agents;
#[path = "clients/api.rs"]
mod api;
#[path = "clients/churn.rs"]
mod churn;
#[path = "clients/codecs.rs"]
mod codecs;
#[path = "clients/data.rs"]
mod data;
#[path = "clients/data_tracks.rs"]
mod data_tracks;
#[path = "clients/dynacast.rs"]
mod dynacast;
#[path = "clients/encryption.rs"]
mod encryption;
#[path = "clients/examination.rs"]
mod examination;
#[path = "clients/firefox.rs"]
mod firefox;
#[path = "clients/layers.rs"]
mod layers;
#[path = "clients/meeting.rs"]
mod meeting;
#[path = "clients/networks.rs"]
mod networks;
#[path = "clients/packets.rs"]
mod packets;
#[path = "clients/page.rs"]
mod page;
#[path = "clients/relay.rs"]
mod relay;
#[path = "clients/resuming.rs"]
mod resuming;
#[path = "clients/rows/mod.rs"]
mod rows;
#[path = "clients/sdk.rs"]
mod sdk;
#[path = "clients/tcp.rs"]
mod tcp;
#[path = "clients/webhooks.rs"]
mod webhooks;
#[path = "clients/whip.rs"]
mod whip;
#[path = "clients/words.rs"]
mod words;
