//! The examples of the runtime, which applications copy: each is run with a tiny model, and says what it should.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::Write;
use std::process::{Command, Stdio};

use sbnc_tests::{Place, example, finish};

/// The lines that an example prints for a model and some arguments.
fn lines(place: &Place, name: &str, arguments: &[&str]) -> Vec<String> {
    let output = finish(Command::new(example(name)).arg(place.path("t.sbnc")).args(arguments)).expect_code(0);
    output.stdout.lines().map(str::to_owned).collect()
}

#[test]
fn a_chat_answers_as_the_command_does() {
    let place = Place::with_talker();
    let talk = |mut command: Command| {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"hi\nand now\n").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let mut chat = Command::new(example("chat"));
    chat.arg(place.path("t.sbnc"));
    let answers = talk(chat);
    assert!(answers.len() > 2);
    assert_eq!(answers, talk(place.command("run t.sbnc --chat --max-tokens 400 --seed 1")));
}

#[test]
fn embeddings_are_most_like_themselves() {
    let place = Place::with_talker();
    let texts = ["hello and the", "the word", "hello and the other"];
    let rows = lines(&place, "embed", &texts);
    assert_eq!(rows.len(), 3);
    let number = |i: usize, j: usize| rows[i].split_whitespace().nth(j).unwrap().parse::<f64>().unwrap();
    for (i, text) in texts.iter().enumerate() {
        assert!(rows[i].ends_with(text), "{}", rows[i]);
        assert!((number(i, i) - 1.0).abs() < 1e-3);
        (0..3).filter(|&j| j != i).for_each(|j| assert!(number(i, j) < 0.999 && number(i, j) == number(j, i)));
    }
}

#[test]
fn scores_are_the_log_probabilities_of_the_command() {
    let place = Place::with_talker();
    let scores = lines(&place, "score", &["hello", " and", " w"]);
    assert_eq!(scores.len(), 2);
    // Both continuations are one token of the tiny model, whose log-probability `run` tells too.
    let told = place.run("run t.sbnc --prompt hello --max-tokens 1 --json --logprobs 320").expect_code(0).json();
    let top = told["logprobs"][0]["top"].as_array().unwrap();
    for (line, (text, token)) in scores.iter().zip([("and", 266), ("w", 270)]) {
        let score: f64 = line.split_whitespace().next().unwrap().parse().unwrap();
        let expected = top.iter().find(|entry| entry["token"] == token).unwrap()["logprob"].as_f64().unwrap();
        assert!(line.ends_with(text) && (score - expected).abs() < 2e-3, "{line}: {expected}");
    }
}

#[test]
fn a_sampler_of_ones_own_generates() {
    let place = Place::with_talker();
    let said = lines(&place, "sampling", &["hello"]).join("\n");
    assert!(!said.is_empty());
    assert_eq!(said, lines(&place, "sampling", &["hello"]).join("\n"), "the same seed gives the same text");
}
