"""HTML of the two generators as text."""

import unittest

from sbnc_train.pages import text_of

BOOK = """<nav><p>menu</p></nav><main><h2 id="a"><a class="header" href="#a">What Is <code>Drop</code>?</a></h2><p>A “trait” with
 one method.</p><ul><li>one</li><li>two</li></ul><pre><code class="language-rust"><span class="boring">fn main() {
</span>    let x = 1 &lt; 2;
<span class="boring">}</span></code></pre><p>[destructors.scope]</p><h2>Left over</h2></main><p>footer</p>"""

STD = """<section id="main-content"><a class="src" href="x">Source</a><h1>Enum <span>Option</span> <button>Copy item path</button></h1><h4 class="code-header">impl&lt;T&gt; Option&lt;T&gt;</h4>
<h4 class="code-header">pub fn is_some(&amp;self) -&gt; bool</h4><div class="docblock"><p>Returns <code>true</code> if the option is a <code>Some</code> value.</p></div></section>"""


SOURCE = """<body class="rustdoc src"><section id="main-content"><pre class="rust"><code><a href=#1 id=1 data-nosnippet>1</a><span class="kw">fn </span>main() {
<a href=#2 id=2 data-nosnippet>2</a>}</code></pre></section></body>"""


class Pages(unittest.TestCase):
    def test_book(self):
        wanted = '## What Is `Drop`?\n\nA "trait" with one method.\n- one\n- two\n\n```\n    let x = 1 < 2;\n```\n'
        self.assertEqual(text_of(BOOK, set(), 0), wanted)

    def test_rustdoc(self):
        wanted = "# Enum Option\n\n```\npub fn is_some(&self) -> bool\n```\n\nReturns `true` if the option is a `Some` value.\n"
        self.assertEqual(text_of(STD, set(), 0), wanted)

    def test_source_has_no_line_numbers(self):
        self.assertEqual(text_of(SOURCE, set(), 0), "```\nfn main() {\n}\n```\n")

    def test_repetition_is_dropped(self):
        seen = set()
        text_of(STD, seen, 0)
        self.assertNotIn("Returns", text_of(STD, seen, 0))


if __name__ == "__main__":
    unittest.main()
