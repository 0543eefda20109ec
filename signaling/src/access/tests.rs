use super::*;

const NOW: i64 = 1_800_000_000;

fn keys() -> Keys {
    [("devkey".to_owned(), "secret".to_owned())].into_iter().collect()
}

fn claims() -> Claims {
    Claims {
        sub: "alice".into(),
        video: Some(VideoGrant { room_join: true, room: "r".into(), ..VideoGrant::default() }),
        ..Claims::default()
    }
}

fn token_of(header: &str, payload: &str, secret: &str) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let key = EncodingKey::from_secret(secret.as_bytes());
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256).unwrap();
    format!("{signed}.{signature}")
}

const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

#[test]
fn a_minted_token_is_let_in_until_it_ends() {
    let token = mint("devkey", "secret", claims(), Duration::from_mins(10), NOW).unwrap();
    let got = verify(&keys(), &token, NOW).unwrap();
    assert_eq!(got.identity(), "alice");
    assert_eq!((got.nbf, got.exp), (Some(NOW), Some(NOW + 600)));
    assert_eq!(got.video, claims().video);
    assert!(verify(&keys(), &token, NOW + 660).is_ok(), "a minute of leeway");
    assert_eq!(verify(&keys(), &token, NOW + 661), Err(TokenError::Expired));
    assert!(verify(&keys(), &token, NOW - 60).is_ok(), "a minute of leeway");
    assert_eq!(verify(&keys(), &token, NOW - 61), Err(TokenError::NotYetValid));
}

#[test]
fn each_bad_token_has_its_own_answer() {
    let good = format!(r#"{{"iss":"devkey","sub":"a","exp":{}}}"#, NOW + 60);
    let check = |token: &str| verify(&keys(), token, NOW).expect_err("was let in");
    assert_eq!(check(""), TokenError::Missing);
    for junk in ["x", "a.b.c", "....", "é.é.é", &format!("{}.{}.", URL_SAFE_NO_PAD.encode(HS256), "!!")] {
        assert_eq!(check(junk), TokenError::Malformed, "{junk}");
    }
    for alg in ["none", "None", "HS384", "HS512", "RS256", "ES256"] {
        let header = format!(r#"{{"alg":"{alg}"}}"#);
        assert_eq!(check(&token_of(&header, &good, "secret")), TokenError::Algorithm, "{alg}");
        let unsigned = format!("{}.{}.", URL_SAFE_NO_PAD.encode(&header), URL_SAFE_NO_PAD.encode(&good));
        assert_eq!(check(&unsigned), TokenError::Algorithm, "{alg}");
    }
    assert_eq!(check(&token_of(HS256, &good, "Secret")), TokenError::Signature);
    let other_key = good.replace("devkey", "otherkey");
    assert_eq!(check(&token_of(HS256, &other_key, "secret")), TokenError::UnknownKey);
    assert_eq!(check(&token_of(HS256, r#"{"sub":"a"}"#, "secret")), TokenError::UnknownKey);
    assert_eq!(check(&token_of(HS256, r#"{"iss":"devkey"}"#, "secret")), TokenError::NoExpiry);
    assert_eq!(check(&token_of(HS256, r#"{"iss":"devkey","exp":"soon"}"#, "secret")), TokenError::Malformed);
    assert_eq!(check(&token_of(HS256, r#"{"iss":"devkey","exp":-1}"#, "secret")), TokenError::Expired);
    let tampered = token_of(HS256, &good, "secret").replacen('.', ".e30", 1);
    assert_eq!(check(&tampered), TokenError::Malformed, "the payload is no JSON any more");
    assert_eq!(check(&"a".repeat(MAX_TOKEN + 1)), TokenError::Malformed);
    assert!(verify(&keys(), &token_of(HS256, &good, "secret"), NOW).is_ok(), "the good one is let in");
}

#[test]
fn absent_permissions_have_the_protocols_defaults() {
    let grant = VideoGrant::default();
    assert!(grant.can_publish() && grant.can_subscribe() && grant.can_publish_data());
    assert!(!grant.can_update_own_metadata() && !grant.can_subscribe_metrics());
    let muted = VideoGrant { can_publish: Some(false), ..VideoGrant::default() };
    assert!(!muted.can_publish_data(), "data follows publishing");
    let data = VideoGrant { can_publish: Some(false), can_publish_data: Some(true), ..VideoGrant::default() };
    assert!(data.can_publish_data());
}

#[test]
fn unknown_claims_and_fractional_times_are_accepted_and_survive_a_refresh() {
    let payload = format!(
        r#"{{"iss":"devkey","sub":"a","exp":{}.75,"nbf":null,"agentPlus":{{"x":1}},
            "video":{{"roomJoin":true,"room":"r","canFly":true,"canPublish":false}},"roomConfig":{{"maxParticipants":3}}}}"#,
        NOW + 60
    );
    let got = verify(&keys(), &token_of(HS256, &payload, "secret"), NOW).unwrap();
    let again = mint("devkey", "secret", got, Duration::from_mins(1), NOW).unwrap();
    let got = verify(&keys(), &again, NOW).unwrap();
    assert_eq!(got.other["agentPlus"]["x"], 1);
    let video = got.video.unwrap();
    assert_eq!(video.other["canFly"], true);
    assert!(!video.can_publish());
    assert_eq!(got.room_config.unwrap()["maxParticipants"], 3);
}

#[test]
fn identity_falls_back_to_jti() {
    let claims = Claims { jti: "bob".into(), ..Claims::default() };
    assert_eq!(claims.identity(), "bob");
    assert_eq!(Claims::default().identity(), "");
}

#[test]
fn secrets_do_not_show_in_debug_output() {
    assert_eq!(format!("{:?}", keys()), r#"{"devkey"}"#);
    assert_eq!(mint("k", "", claims(), Duration::ZERO, NOW), Err(MintError::EmptySecret));
}
