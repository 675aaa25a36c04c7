#!/usr/bin/env python3
"""Writes tests/unit/text/data/templates/golden.json: what transformers and Jinja2 make of the templates there over the
conversations of template_lib.py, and of expressions and statements, hand-picked and random.

Usage: make_template_golden.py   (needs: pip install transformers jinja2)
"""
import hashlib
import importlib.metadata
import json
import random
import re
import warnings

from template_lib import cases, theirs
from test_template import DATA, LAZY, NOW, VARS, body, expression, load

PICKED = r"""
{{ [1, 2, 3][::-1] }}|{{ 'abcdef'[-2::-2] }}|{{ (1, 2, 3)[1:] }}|{{ range(10)[2:8:3] | list }}|{{ range(3) }}|{{ range(1, 9, 2)[1:] }}
{{ 1.0 }}|{{ 1e16 }}|{{ 1e15 }}|{{ 0.1 + 0.2 }}|{{ 1e-5 }}|{{ 0.0001 }}|{{ -0.0 }}|{{ 1e300 * 1e10 }}|{{ 5e-324 }}|{{ 2.5 // 1 }}
{{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % -3 }} {{ -7 % 3 }} {{ 7.5 % -2 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }} {{ 2 ** 3 ** 2 }} {{ 6 / 3 }}
{{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 1 == 1.0 == true }} {{ 'a' in 'abc' }} {{ 'b' not in ['a'] }} {{ not 1 == 2 }} {{ 'a' < 'b' }}
{{ 'a' ~ 1 ~ none ~ true ~ 1.5 ~ [1, 'x'] ~ {'k': 'v'} ~ missing }}
{{ "it's" | list }} {{ ['it\'s', "q\"q", 'both\'"', 'tab\t', 'é', '\x00', '\u200b', '\U0001F600'] }}
{{ 'x' if false }}|{{ 'x' if missing else 'y' }}|{{ missing }}|{{ missing | default('d') }}|{{ '' | default('e', true) }}|{{ none | d('n') }}
{{ missing.attribute }}
{{ missing['key'] }}
{{ missing + 1 }}
{{ none.x }}|{{ 3.x }}|{{ 'str'.x }}|{{ [].x is defined }}|{{ {}.x is undefined }}|{{ data.flag.x }}
{{ data.items }}
{{ data['items'] }}|{{ data.f }}|{{ data.nested.k }}|{{ data.nested['k'] }}|{{ data.list.0 }}|{{ people.0.name }}
{{ {'a': 1}.items() }}|{{ {'a': 1}.keys() }}|{{ {'a': 1}.values() | list }}|{{ {'a': 1} | items | list }}|{{ {'b': 1, 'a': 2} | dictsort }}
{{ {'a': {'b': [1, none, true]}} | tojson }}|{{ {'a': [1, {'b': 2}], 'c': {}} | tojson(indent=2) }}|{{ 'é<>&\'"/\u2028' | tojson }}|{{ 'é' | tojson(ensure_ascii=true) }}
{{ {'b': 1, 'a': [1.0, 2]} | tojson(sort_keys=true, separators=(',', ':')) }}|{{ [] | tojson(indent=1) }}|{{ {1: 2, none: 3, true: 4, 1.5: 5} | tojson }}
{{ missing | tojson }}
{% for i in range(3) %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(i // 2) }};{% endfor %}
{% for a, b in [(1, 2), [3, 4]] %}{{ a }}-{{ b }} {% endfor %}{% for (a, b), c in [((1, 2), 3)] %}{{ a + b + c }}{% endfor %}{% for x in [] %}no{% else %}empty{% endfor %}
{% for x in [1, 2, 3, 4, 5] if x is odd %}{{ loop.index }}:{{ x }} {% endfor %}{% for x in 'héy' %}{{ x }}.{% endfor %}{% for k in {'p': 1, 'q': 2} %}{{ k }}{% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for i in [1, [2, [3]]] recursive %}{% if i is iterable %}({{ loop(i) }}){% else %}{{ i }}{{ loop.depth }}{% endif %}{% endfor %}
{% set x = 1 %}{% for i in [1, 2] %}{{ x }}{% set x = 9 %}{{ x }}{% endfor %}{{ x }}{% if true %}{% set x = 5 %}{% endif %}{{ x }}
{% set ns = namespace(n=0, l=[]) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% set ns.l = ns.l + [i] %}{% endfor %}{{ ns.n }}{{ ns.l }}{{ ns['n'] }}{{ ns }}
{% set a, b = 1, 'two' %}{{ a }}{{ b }}{% set c %}block {{ a }}{% endset %}{{ c }}{% set d | upper | replace('A', 'b') %} a {% endset %}[{{ d }}]
{% macro m(a, b='x', c=a) %}{{ a }}{{ b }}{{ c }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1) }}{{ m(1, 2, 3, 4, z=5) }}{{ m(b=1, a=2) }}{{ m(*[1, 2], **{'c': 3}) }}{{ m() }}{{ m.name }}
{% macro m() %}[{{ caller(1, 2) }}]{% endmacro %}{% call(a, b) m() %}{{ a }}+{{ b }}{% endcall %}{% macro n() %}{{ caller is defined }}{% endmacro %}{{ n() }}
{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}
{% with a=1, b=2 %}{{ a }}{{ b }}{% set c = 3 %}{{ c }}{% endwith %}{{ a }}{{ c }}
{% filter upper | replace('B', '-') %}abc {{ 'def' }}{% endfilter %}{% raw %}{{ x }}{% if %}{% endraw %}{# {{ comment }} #}{{ '{{' }}{{ "%}" }}
a  {%- if true -%}  b  {%- endif -%}  c
  {% if true %}
 x
  {% endif %}
y  {{ 1 }}
 z {%+ if true +%}
w{% endif %}

line{# comment #}
	{#- a -#}   next
{{ -1 | abs }}|{{ '3' | int + 1 }}|{{ 'x' | int(7) }}|{{ '1.9' | int }}|{{ '0b11' | int(0, 2) }}|{{ 'ff' | int(base=16) }}|{{ '1.5' | float }}|{{ 'z' | float }}|{{ 3.7 | int }}|{{ true | int }}
{{ 2.5 | round }}|{{ 3.5 | round }}|{{ 2.675 | round(2) }}|{{ 1.25 | round(1) }}|{{ 42 | round }}|{{ 42.55 | round(1, 'floor') }}|{{ 42.01 | round(method='ceil') }}|{{ 15 | round(-1) }}|{{ 1234.5 | round(-2) }}
{{ [3, 1, 2] | sort }}|{{ ['b', 'A', 'c'] | sort }}|{{ ['b', 'A'] | sort(case_sensitive=true) }}|{{ people | sort(attribute='name') | map(attribute='name') | list }}|{{ [1, 2] | sort(reverse=true) }}
{{ people[:3] | groupby('age') }}|{% for g in people[:3] | groupby('age') %}{{ g.grouper }}:{{ g.list | length }}{{ g[0] }} {% endfor %}|{% for k, l in people | groupby('name') %}{{ k }}{{ l | length }}{% endfor %}
{{ people | map(attribute='tags') | list }}|{{ people | map(attribute='tags.0') | list }}|{{ people | selectattr('age') | map(attribute='name') | join(', ') }}|{{ people | rejectattr('name', 'eq', 'bob') | list | length }}|{{ [1, 2, 3, 4] | select('gt', 2) | list }}|{{ ['a', 1] | select('string') | first }}
{{ [1, 2, 2, 3] | unique | list }}|{{ ['A', 'a'] | unique | list }}|{{ [1, 2, 3] | sum }}|{{ people[:3] | sum('age') }}|{{ [[1], [2]] | sum(start=[]) }}|{{ [4, 2, 9] | min }}{{ [4, 2, 9] | max }}|{{ [] | max }}|{{ people[:3] | max(attribute='age') }}
{{ [1, 2, 3, 4, 5] | batch(2) | list }}|{{ [1, 2, 3] | batch(2, 0) | list }}|{{ range(7) | slice(3) | list }}|{{ range(7) | slice(3, 'x') | list }}|{{ 'abc' | reverse }}|{{ [1, 2] | reverse | list }}|{{ 'abc' | first }}{{ 'abc' | last }}|{{ [] | first }}
{{ 'a\nb\n\nc' | indent }}|{{ 'a\nb' | indent(2, true) }}|{{ 'a\n\nb' | indent('--', blank=true) }}|{{ 'hello big world' | title }}|{{ "it's o'neil a-b" | title }}|{{ 'hELLO' | capitalize }}|{{ 'x' | center(5) }}|
{{ 'foo bar baz qux' | truncate(9) }}|{{ 'foo bar baz qux' | truncate(9, true) }}|{{ 'foo bar baz qux' | truncate(11) }}|{{ 'foo bar' | truncate(5, leeway=0) }}|{{ 'one two' | wordcount }}|{{ '%s=%05.2f|%-5s|%x' | format('a', 3.14159, 'b', 255) }}
{{ '<a & "b">' | e }}|{{ '<' | safe ~ '<' | e }}|{{ ('<' | e) + '<' }}|{{ 'a b/c?d=é' | urlencode }}|{{ {'a b': 'c&d', 'e': 1} | urlencode }}|{{ 1000000 | filesizeformat }}|{{ 1024 | filesizeformat(true) }}|{{ 1 | filesizeformat }}
{{ '{:>5}|{:<5}|{:^5}|{:05d}|{:,}|{:.3f}|{!r}|{0}' }}|{{ '{:>5}|{:<5}|{:^5}|{:05d}|{:,}|{:.3f}|{!r}'.format('a', 'b', 'c', 42, 1234567, 3.14159, 'q') }}|{{ '{a.k}{b[0]}{{}}'.format(a=data.nested, b=[1]) }}
{{ 'a,b,c'.split(',') }}|{{ ' a  b '.split() }}|{{ 'a b c'.rsplit(' ', 1) }}|{{ 'xxhixx'.strip('x') }}|{{ 'a\nb\r\nc\x0bd'.splitlines() }}|{{ 'abc'.partition('b') }}|{{ 'abcb'.rpartition('b') }}|{{ 'abc'.removeprefix('a').removesuffix('c') }}
{{ 'Hello'.startswith('He') }}{{ 'Hello'.endswith(('x', 'lo')) }}{{ 'hello'.find('l') }}{{ 'hello'.rfind('l') }}{{ 'hello'.count('l') }}{{ 'héllo'.find('l') }}{{ 'a'.zfill(3) }}{{ '-5'.zfill(4) }}{{ 'ab'.join(['1', '2']) }}{{ 'aBc'.swapcase() }}
{{ '12'.isdigit() }}{{ 'ab'.isalpha() }}{{ ' '.isspace() }}{{ 'AB'.isupper() }}{{ 'ab1'.isalnum() }}{{ ''.isdigit() }}{{ '½'.isnumeric() }}{{ '²'.isdigit() }}{{ '٣'.isdecimal() }}{{ 'ǅ'.istitle is defined }}
{{ [1, 2].append(3) }}
{{ {'a': 1}.update({'b': 2}) }}
{{ {'a': 1}.pop('a') }}
{{ [1, 2, 1].count(1) }}{{ [1, 2].index(2) }}{{ {'a': 1}.get('b') }}{{ {'a': 1}.get('b', 'z') }}{{ dict(a=1, **{'b': 2}) }}{{ dict([('k', 'v')]) }}{{ {}.get }}
{{ 1 is number }}{{ 1.0 is float }}{{ true is integer }}{{ true is number }}{{ 'a' is string }}{{ {} is mapping }}{{ [] is sequence }}{{ 'a' is iterable }}{{ 1 is iterable }}{{ none is none }}{{ x is defined }}{{ range is callable }}{{ 4 is even }}{{ 4 is divisibleby 2 }}{{ 'A' is upper }}{{ 1 is sameas true }}{{ 'upper' is filter }}{{ 'odd' is test }}{{ 1 is in [1] }}{{ 1 is not in [1] }}
{% set j = joiner('|') %}{{ j() }}{{ j() }}{% set c = cycler(1, 2) %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}
{{ raise_exception('stop') }}
{{ strftime_now('%d %B %Y') }}|{{ strftime_now('%%') }}
{{ range(100001) }}
{% set m = messages %}{{ m }}{{ messages is defined }}{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}
{{ [1, 2, 3] | join }}|{{ people | join(', ', attribute='name') }}|{{ [none, true, 1.0] | join('-') }}|{{ 'abc' | join('.') }}|{{ (1, 'a') | join('+') }}
{{ () }}{{ (1,) }}{{ 1, 2 }}{{ [1, (2, 3), {'a': none}] }}{{ {1: 'a', (1, 2): 'b'} }}{{ {'a': 1, 'a': 2} }}{{ [1] + [2] }}{{ (1,) + (2,) }}{{ [0] * 3 }}{{ 'ab' * 2 }}{{ 2 * 'x' }}{{ 'a' + 'b' 'c' }}
{{ 1 if 0 else 2 if 0 else 3 }}{{ (1 and 0) or 'z' }}{{ 0 or '' or none }}{{ 1 and 'y' }}{{ not not 1 }}{{ -(-1) }}{{ +1 }}{{ - 1 }}{{ 1 - -1 }}{{ 10 - 2 - 3 }}{{ 2 * 3 % 4 }}
{{ 'x' | nosuchfilter }}
{{ 1 is nosuchtest }}
{% if false %}{{ 'x' | nosuchfilter }}{% endif %}ok
{% include 'x' %}
{% generation %}a{% endgeneration %}b{% generation %}é{{ 1 }}{% endgeneration %}
{{ 0x1F }}{{ 0b11 }}{{ 0o17 }}{{ 1_000 }}{{ 1.5e3 }}{{ 1_0.5 }}{{ '\x41\u00e9\101\n\\' }}{{ 'a\
b' }}
"""


def main():
    warnings.simplefilter("ignore", SyntaxWarning)
    rng = random.Random(7)
    rows = list(cases())
    out = {"versions": {p: importlib.metadata.version(p) for p in ("transformers", "jinja2")}, "now": NOW,
           "conversations": [{"name": n, "messages": m, "vars": v} for n, m, v in rows], "templates": {}, "vars": VARS,
           "language": []}
    for name, text in load([DATA]):
        results = []
        for _, messages, variables in rows:
            got, spans = theirs(text, messages, now=NOW, **variables)
            results.append(None if got is None else
                           [hashlib.sha256(got.encode()).hexdigest()[:16], *(spans or [])])
        out["templates"][name] = results
    pieces = re.split(r"\n(?=\{[{%]|a  |  \{%)", PICKED.strip("\n"))
    pieces += ["{{ " + expression(rng, rng.randrange(1, 4)) + " }}" for _ in range(1200)]
    pieces += [body(rng, 4) for _ in range(500)]
    for t in pieces:
        got, spans = theirs(t, [], now=NOW, **VARS)
        text = str(got)
        if len(t) > 900 or len(text) > 1500 or re.search(r"\bat 0x|0x7|<(bound|built-in|function|class|generator|Macro)|\d{19}", text):
            continue
        if t not in pieces[:90] and re.search(r"\[[^\]]*:[^\]]*\]", t):
            continue  # Jinja's constant folding makes some slices of what cannot be sliced undefined
        if t not in pieces[:90] and (LAZY.search(t) or "generation" in t):  # see docs/templates.md
            continue
        out["language"].append([t, got])
    path = DATA / "golden.json"
    with open(path, "w", encoding="utf-8") as f:
        f.write("{\n")
        for i, (k, v) in enumerate(out.items()):
            f.write(f"{json.dumps(k)}: ")
            if k == "language":
                f.write("[\n" + ",\n".join(json.dumps(x, ensure_ascii=False) for x in v) + "\n]")
            elif k == "templates":
                f.write("{\n" + ",\n".join(f"{json.dumps(n)}: {json.dumps(r, separators=(',', ':'))}" for n, r in v.items()) + "\n}")
            elif k == "conversations":
                f.write("[\n" + ",\n".join(json.dumps(x, ensure_ascii=False) for x in v) + "\n]")
            else:
                f.write(json.dumps(v, ensure_ascii=False))
            f.write(",\n" if i + 1 < len(out) else "\n")
        f.write("}\n")
    print(path, path.stat().st_size, len(out["language"]), "pieces,", sum(x[1] is None for x in out["language"]), "of them refused")


if __name__ == "__main__":
    main()
