//! Minted tokens, and what the door may say of a string without a look-up.

use std::convert::Infallible;

use super::super::digest::TokenDigest;
use super::super::mint::{Plausibility, TOKEN_BYTES_MAX, TokenPrefix, digest_and_wipe};

fn prefix() -> TokenPrefix {
    TokenPrefix::parse("tks").expect("three letters")
}

/// A token from a seed.
fn minted(seed: u64) -> String {
    let mut state = seed;
    let random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Ok::<u8, Infallible>(((state >> 33) % 62) as u8)
    };
    match prefix().mint(random) {
        Ok(token) => token,
        Err(never) => match never {},
    }
}

fn judge(token: &str) -> Plausibility {
    prefix().judge(token.as_bytes())
}

#[test]
fn a_minted_token_has_the_documented_form() {
    let mut digit = 0;
    let counting = || {
        digit += 1;
        Ok::<u8, Infallible>(digit - 1)
    };
    // CRC-32 (IEEE) of the random part in base62, worked out by an independent program.
    assert_eq!(prefix().mint(counting), Ok("tks_0123456789ABCDEFGHIJKLMNOPQRST4PMbyp".to_owned()));
    assert_eq!(judge("tks_0123456789ABCDEFGHIJKLMNOPQRST4PMbyp"), Plausibility::Possible);
}

#[test]
fn without_randomness_no_token_is_made() {
    let mut left = 29;
    let runs_dry = || {
        left -= 1;
        if left >= 0 { Ok(7) } else { Err("dry") }
    };
    assert_eq!(prefix().mint(runs_dry), Err("dry"));
}

#[test]
fn every_changed_character_of_a_minted_token_is_junk() {
    for seed in 0..8 {
        let token = minted(seed);
        assert_eq!(judge(&token), Plausibility::Possible);
        for at in "tks_".len()..token.len() {
            for byte in 0..=255_u8 {
                let mut altered = token.clone().into_bytes();
                if altered[at] != byte {
                    altered[at] = byte;
                    assert_eq!(prefix().judge(&altered), Plausibility::Junk, "byte {at} of {token} as {byte:#x}");
                }
            }
        }
    }
}

#[test]
fn every_cut_added_exchanged_or_folded_character_is_junk() {
    for seed in 0..32 {
        let token = minted(seed);
        let start = "tks_".len();
        for at in start..token.len() {
            assert_eq!(judge(&token[..at]), Plausibility::Junk, "cut before {at}");
            let removed = format!("{}{}", &token[..at], &token[at + 1..]);
            assert_eq!(judge(&removed), Plausibility::Junk, "{removed}");
            let doubled = format!("{}{}", &token[..=at], &token[at..]);
            assert_eq!(judge(&doubled), Plausibility::Junk, "{doubled}");
            let mut exchanged = token.clone().into_bytes();
            if at + 1 < token.len() && exchanged[at] != exchanged[at + 1] {
                exchanged.swap(at, at + 1);
                assert_eq!(prefix().judge(&exchanged), Plausibility::Junk, "{at} exchanged in {token}");
            }
        }
        for near in
            [format!("{token} "), format!("{token}\n"), format!("{token}="), format!("{token}0"), format!("{token}\0")]
        {
            assert_eq!(judge(&near), Plausibility::Junk, "{near:?}");
        }
        for folded in [token[start..].to_lowercase(), token[start..].to_uppercase()] {
            assert_eq!(judge(&format!("tks_{folded}")), Plausibility::Junk);
        }
    }
}

#[test]
fn none_of_a_hundred_thousand_altered_tokens_passes() {
    let mut state = 42_u64;
    let mut below = |end: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % end
    };
    let digits = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut altered_tokens = 0;
    for seed in 0..1_000 {
        let token = minted(seed);
        for _ in 0..100 {
            let mut altered = token.clone().into_bytes();
            for _ in 0..=below(6) {
                let at = 4 + below(token.len() - 4);
                altered[at] = digits[below(62)];
            }
            if altered != token.as_bytes() {
                altered_tokens += 1;
                assert_eq!(prefix().judge(&altered), Plausibility::Junk, "{token} as {altered:?}");
            }
        }
    }
    assert!(altered_tokens > 90_000, "only {altered_tokens}");
}

#[test]
fn what_others_issued_is_not_judged() {
    let ours = minted(1);
    // A changed prefix makes it somebody else's token: only a look-up can tell, and it will not be found.
    let foreign =
        ["x", "tks", "tks-abc", "TKS_abc", "tksx_abc", "eyJhbGciOi.J9.x", "abc tks_", "\u{fc}", &ours[1..], "Tks_"];
    for foreign in foreign {
        assert_eq!(judge(foreign), Plausibility::Possible, "{foreign:?}");
    }
    assert_eq!(judge(&format!(" {ours}")), Plausibility::Possible);
}

#[test]
fn what_no_token_can_be_is_junk() {
    let longest = "x".repeat(TOKEN_BYTES_MAX);
    assert_eq!(judge(&longest), Plausibility::Possible);
    for junk in ["", "tks_", "tks_abc", &format!("{longest}x"), &format!("tks_{}", "0".repeat(36))] {
        assert_eq!(judge(junk), Plausibility::Junk, "{} bytes", junk.len());
    }
}

#[test]
fn a_prefix_is_two_to_eight_small_letters() {
    for good in ["ab", "tks", "abcdefgh"] {
        assert_eq!(TokenPrefix::parse(good).map(|prefix| prefix.as_str().to_owned()), Some(good.to_owned()));
    }
    for bad in ["", "a", "abcdefghi", "Tks", "tk1", "tk_", "tk ", "tkü"] {
        assert_eq!(TokenPrefix::parse(bad), None, "{bad:?}");
    }
}

#[test]
fn hashing_and_wiping_gives_the_digest_of_the_token() {
    assert_eq!(digest_and_wipe(b"abc".to_vec()), TokenDigest::of(b"abc"));
}
