/** Hidden characters, times, names of browsers, and enrollment links. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { isLink, parseGrant, parsePasted } from '../assets/link.js';
import { browserName, splitHidden, timeLeft } from '../assets/text.js';

const plain = (text) => splitHidden(text).map((part) => ('text' in part ? part.text : `[${part.mark}]`)).join('');

test('characters that are invisible or reorder text become marks', () => {
    for (const code of [0x202a, 0x202e, 0x2066, 0x2069, 0x200b, 0x200f, 0xfeff, 0xad, 0x61c, 0, 0x9, 0x85, 0xe0041]) {
        const name = `U+${code.toString(16).toUpperCase().padStart(4, '0')}`;
        assert.equal(plain(`a${String.fromCodePoint(code)}b`), `a[${name}]b`);
    }
    assert.equal(plain('\u202e'), '[U+202E]');
    assert.equal(plain('a\u200db'), 'a[U+200D]b');
    assert.equal(plain('\u200d\u{1f600}'), '[U+200D]\u{1f600}');
});

test('ordinary text of any language stays as it is', () => {
    for (const text of ['', 'Sign in?\nFrom Berlin', 'Größe', 'שלום', 'مرحبا', '日本', '👨‍👩‍👧', '❤️‍🔥', '€ 1.000,00']) {
        assert.equal(plain(text), text);
        assert.ok(splitHidden(text).every((part) => 'text' in part), text);
    }
});

test('time left is shown as minutes and seconds', () => {
    const shown = [3600, 61, 60, 59.2, 0.1, 0, -5].map(timeLeft);
    assert.deepEqual(shown, ['60:00', '1:01', '1:00', '1:00', '0:01', '0:00', '0:00']);
});

test('browser is named after its user agent', () => {
    const chrome = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36';
    const edge = `${chrome.replace('X11; Linux', 'Windows NT 10.0; Win64;')} Edg/140.0`;
    const iphone =
        'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 Version/18.0 Mobile/15E148 Safari/604.1';
    assert.equal(browserName(chrome), 'Chrome on Linux');
    assert.equal(browserName(edge), 'Edge on Windows');
    assert.equal(browserName(iphone), 'Safari on iPhone');
    assert.equal(browserName('curl'), 'Browser');
});

const SERVICE = 'VA' + '2'.repeat(32);
const GRANT = { token: 'a.b-c_d', serviceSid: SERVICE, identity: 'user-0001' };
const FRAGMENT = `#t=a.b-c_d&s=${SERVICE}&i=user-0001`;

test('enrollment link is parsed, and an altered one is not', () => {
    assert.deepEqual(parseGrant(FRAGMENT), GRANT);
    const altered = ['', '#', '#t=a', FRAGMENT.replace('s=VA', 's=AC'), FRAGMENT.replace('0001', '../..')];
    for (const fragment of [...altered, FRAGMENT.slice(0, -3), FRAGMENT.replace('t=a', 't= a')]) {
        assert.equal(parseGrant(fragment), null, fragment);
    }
    assert.deepEqual([FRAGMENT, '#t=', '#x', ''].map(isLink), [true, true, false, false]);
});

test('pasted link must be for this server', () => {
    const page = 'https://verify.example.com/phone/';
    assert.deepEqual(parsePasted(` ${page}${FRAGMENT}\n`, page), GRANT);
    assert.deepEqual(parsePasted(FRAGMENT, page), GRANT);
    assert.equal(parsePasted(`https://other.example.com/phone/${FRAGMENT}`, page), 'foreign');
    assert.equal(parsePasted(`http://verify.example.com/phone/${FRAGMENT}`, page), 'foreign');
    for (const text of ['', 'hello', page, `${page}#t=1`, `javascript:alert(1)${FRAGMENT}x!`]) {
        assert.equal(parsePasted(text, page), 'invalid', text);
    }
});
