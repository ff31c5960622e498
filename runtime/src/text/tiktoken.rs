//! `tokenizer.model` of Llama 3, which the Sparse-BitNet trainer uses: a line for each token, its bytes in base64 and its rank.
//!
//! The file has neither the expression that cuts text into words nor the special tokens; both are those of Llama 3. A `tokenizer.model` of SentencePiece
//! is another format and is refused.

use std::collections::HashMap;

use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

use super::pieces::char_of;
use crate::error::{Error, Kind};

/// How Llama 3 cuts text into words.
const WORDS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Special tokens of Llama 3.
const SPECIALS: u32 = 256;

/// The longest token: what is longer is no such file.
const MAX_TOKEN: usize = 4096;

/// Makes a tokenizer of the file.
pub(super) fn load(file: &[u8]) -> tokenizers::Result<Tokenizer> {
    let ranks = parse(file)?;
    let merges = merges(&ranks);
    let text = |bytes: &[u8]| -> String { bytes.iter().map(|&b| char_of(b)).collect() };
    let vocab: Vocab = ranks.iter().map(|(bytes, &rank)| (text(bytes), rank)).collect();
    let merges = merges.into_iter().map(|(a, b)| (text(a), text(b))).collect();
    let model = BPE::builder().vocab_and_merges(vocab, merges).ignore_merges(true).build()?;
    let mut tokenizer = Tokenizer::new(model);
    let words = Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Isolated, false)?;
    let bytes = ByteLevel::new(false, true, false);
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![words.into(), bytes.into()])));
    tokenizer.with_decoder(Some(bytes));
    let names = special_names();
    tokenizer.add_special_tokens(names.iter().map(|name| AddedToken::from(name.as_str(), true)))?;
    let bos = names[0].as_str();
    let id = ranks.len() as u32;
    let begins = TemplateProcessing::builder()
        .try_single(format!("{bos} $A"))?
        .try_pair(format!("{bos} $A {bos} $B"))?
        .special_tokens(vec![(bos, id)])
        .build()?;
    tokenizer.with_post_processor(Some(begins));
    Ok(tokenizer)
}

/// Tokens and their ranks, which are the numbers from 0 on.
fn parse(file: &[u8]) -> tokenizers::Result<HashMap<Vec<u8>, u32>> {
    let problem = |found: String| {
        let expected = "a line for each token, its bytes in base64 and its rank, as Llama 3 has";
        let error = Error::new(Kind::Unsupported, "tokenizer.model", expected, found);
        Box::new(error.remedy("SentencePiece models need a tokenizer.json; token ids can be used without either"))
    };
    let mut ranks = HashMap::new();
    for (i, line) in file.split(|&b| b == b'\n').filter(|line| !line.is_empty()).enumerate() {
        let parsed = || {
            let line = std::str::from_utf8(line).ok()?;
            let (bytes, rank) = line.trim_end().split_once(' ')?;
            Some((base64(bytes)?, rank.parse::<u32>().ok()?))
        };
        match parsed() {
            Some((bytes, rank)) if rank as usize == i && (1..=MAX_TOKEN).contains(&bytes.len()) => {
                if ranks.insert(bytes, rank).is_some() {
                    return Err(problem(format!("a token twice, in line {}", i + 1)));
                }
            }
            _ => return Err(problem(format!("something else in line {}", i + 1))),
        }
    }
    let missing = (0..=255u8).find(|&byte| !ranks.contains_key(&[byte][..]));
    match missing {
        Some(byte) => Err(problem(format!("no token for the byte {byte}"))),
        None => Ok(ranks),
    }
}

/// Every way to make a token of two others, in the order in which they are applied: by the token's rank, which is what the pieces become.
fn merges(ranks: &HashMap<Vec<u8>, u32>) -> Vec<(&[u8], &[u8])> {
    let mut merges = Vec::new();
    for (token, &rank) in ranks {
        for cut in 1..token.len() {
            let (a, b) = token.split_at(cut);
            if let (Some((a, &ra)), Some((b, &rb))) = (ranks.get_key_value(a), ranks.get_key_value(b)) {
                merges.push((rank, ra, rb, &a[..], &b[..]));
            }
        }
    }
    merges.sort_unstable_by_key(|&(rank, a, b, ..)| (rank, a, b));
    merges.into_iter().map(|(.., a, b)| (a, b)).collect()
}

/// In the order of their numbers.
fn special_names() -> Vec<String> {
    let reserved = |i: u32| format!("<|reserved_special_token_{i}|>");
    let mut names = vec!["<|begin_of_text|>".to_owned(), "<|end_of_text|>".to_owned()];
    names.extend((0..4).map(reserved));
    names.extend(["<|start_header_id|>", "<|end_header_id|>"].map(str::to_owned));
    names.extend([reserved(4), "<|eot_id|>".to_owned()]);
    names.extend((5..SPECIALS - 5).map(reserved));
    names
}

/// Standard base64 with padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for c in digits.bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot set itself up has failed")]

    use super::*;

    fn to_base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut out = String::new();
        for chunk in bytes.chunks(3) {
            let bits = chunk.iter().fold(0u32, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - chunk.len()));
            for i in 0..4 {
                let digit = DIGITS[(bits >> (18 - 6 * i)) as usize & 63] as char;
                out.push(if i <= chunk.len() { digit } else { '=' });
            }
        }
        out
    }

    /// All bytes, and some words made of them.
    fn file(words: &[&[u8]]) -> Vec<u8> {
        let bytes = (0..=255u8).map(|b| vec![b]);
        let tokens = bytes.chain(words.iter().map(|w| w.to_vec()));
        let lines = tokens.enumerate().map(|(i, token)| format!("{} {i}\n", to_base64(&token)));
        lines.collect::<String>().into_bytes()
    }

    /// What tiktoken does with a word: join the adjacent pair of the lowest rank, again and again.
    fn reference(ranks: &HashMap<Vec<u8>, u32>, word: &[u8]) -> Vec<u32> {
        let mut parts: Vec<Vec<u8>> = word.iter().map(|&b| vec![b]).collect();
        loop {
            let joined = |i: usize| ranks.get(&[&parts[i][..], &parts[i + 1]].concat());
            let best = (0..parts.len().saturating_sub(1)).filter_map(|i| Some((*joined(i)?, i))).min();
            let Some((_, i)) = best else { break };
            let second = parts.remove(i + 1);
            parts[i].extend(second);
        }
        parts.iter().map(|part| ranks[part]).collect()
    }

    #[test]
    fn words_are_cut_as_tiktoken_cuts_them() {
        let words: [&[u8]; 12] = [
            b"ab",
            b"bc",
            b"abc",
            b"cd",
            b"abcd",
            b" a",
            b" ab",
            b"dd",
            b"ddd",
            b"dddd",
            "é".as_bytes(),
            "日本".as_bytes(),
        ];
        let file = file(&words);
        let ranks = parse(&file).unwrap();
        let tokenizer = load(&file).unwrap();
        for word in ["abcd", "abcdabc", "bcd", "bcbcbc", "ddddd", "ddddddd", "éé", "日本日", "abx", "a", "dabcdd"]
        {
            let found = tokenizer.encode_fast(word, false).unwrap().get_ids().to_vec();
            // A word that is a token is taken as it is.
            let expected = ranks.get(word.as_bytes()).map_or_else(|| reference(&ranks, word.as_bytes()), |&r| vec![r]);
            assert_eq!(found, expected, "{word}");
        }
        let ids = tokenizer.encode_fast("ab ab<|eot_id|>\n12345", true).unwrap().get_ids().to_vec();
        let base = ranks.len() as u32;
        assert_eq!(ids[0], base, "a text begins with its token");
        assert_eq!(tokenizer.token_to_id("<|eot_id|>"), Some(base + 9));
        assert!(ids.contains(&(base + 9)));
        assert_eq!(tokenizer.get_vocab_size(true), ranks.len() + 256);
        assert_eq!(tokenizer.decode(&ids, true).unwrap(), "ab ab\n12345");
    }

    #[test]
    fn other_files_are_refused() {
        let good = file(&[]);
        let sentence_piece = b"\n\x0e\n\x05<unk>\x15\x00\x00\x00\x00\x18\x02".to_vec();
        let twice = [&good[..], b"QQ== 256\n"].concat();
        let gap = [&good[..], b"QUI= 300\n"].concat();
        for bad in [Vec::new(), b"IQ== 0\n".to_vec(), sentence_piece, twice, gap, vec![b'A'; 100_000]] {
            let error = load(&bad).unwrap_err().downcast::<Error>().unwrap();
            assert_eq!(error.kind(), Kind::Unsupported, "{error}");
        }
    }
}
