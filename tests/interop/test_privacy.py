#!/usr/bin/env python3
"""Recall and precision of the privacy step, kind by kind. Usage: test_privacy.py FATHOM [PRESIDIO.json[.gz] ...] [--seed N]

Chinese text is made here, with hard negatives: order numbers, dates, amounts, numbers whose check digit is wrong. The
rules were settled with seed 1; the test's numbers come from seed 2. Files in the form of presidio-research
(full_text, spans) are measured besides. Needs nothing but Python."""
import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict

PRESIDIO = {"EMAIL_ADDRESS": "email", "CREDIT_CARD": "card", "PHONE_NUMBER": "phone", "IP_ADDRESS": "ip",
            "IBAN_CODE": "iban", "US_SSN": "ssn"}
BARS = {"presidio": {"email": 0.95, "card": 0.95}, "made": {"id-cn": 0.99, "card": 0.99, "iban": 0.99, "email": 0.98,
                                                          "phone": 0.98, "name": 0.98, "ip": 0.98, "url-credentials": 0.98}}
SURNAMES = "王李张刘陈杨黄赵吴周徐孙马朱胡郭何林罗高梁郑谢宋唐许邓冯韩曹曾彭萧蔡潘田董袁于余叶蒋杜苏魏程吕丁沈任姚卢傅钟姜崔谭廖范汪陆金石戴贾韦夏邱方侯邹熊孟秦白江阎薛尹段雷黎史龙陶贺顾毛郝龚邵万钱严覃武戚莫孔向汤"
GIVEN = "伟芳娜敏静丽强磊军洋勇艳杰娟涛明超秀霞平刚桂英华玉兰萍红鹏辉婷宇浩然子轩欣怡梓涵雨泽晨曦思远嘉懿煜城博文"
AREAS = ["110101", "310115", "440305", "330106", "510107", "420111", "610103", "320102", "370202", "500103"]


def luhn_digit(body):
    total = sum(d if i % 2 else (2 * d - 9 if d > 4 else 2 * d) for i, d in enumerate(int(c) for c in reversed(body)))
    return str(-total % 10)


def id_number(r, good=True):
    y, m, d = r.randint(1940, 2015), r.randint(1, 12), r.randint(1, 28)
    body = f"{r.choice(AREAS)}{y}{m:02}{d:02}{r.randint(0, 999):03}"
    check = "10X98765432"[sum(int(c) * w for c, w in zip(body, (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2))) % 11]
    if not good:
        check = r.choice([c for c in "0123456789X" if c != check])
    return body + (check.lower() if r.random() < 0.2 else check)


def card(r, good=True):
    length = r.choice([16, 16, 19])
    body = r.choice(["622202", "621700", "623058", "6228", "4563", "5218", "3568"] if length == 16 else ["622202", "621661", "6236"])
    body += "".join(r.choice("0123456789") for _ in range(length - 1 - len(body)))
    check = luhn_digit(body)
    n = body + (check if good else str((int(check) + r.randint(1, 9)) % 10))
    style = r.random()
    return n if style < 0.6 else (" " if style < 0.85 else "-").join(n[i:i + 4] for i in range(0, len(n), 4))


def mobile(r):
    n = "1" + r.choice("3456789") + "".join(r.choice("0123456789") for _ in range(9))
    return r.choice([n, n, n, "+86 " + n, "+86" + n, "86-" + n, f"{n[:3]}-{n[3:7]}-{n[7:]}", f"{n[:3]} {n[3:7]} {n[7:]}"])


def fixed(r):
    area = r.choice(["010", "021", "0755", "0571", "028", "027", "0411", "0512"])
    n = r.choice("2345678") + "".join(r.choice("0123456789") for _ in range(7))
    return r.choice([f"{area}-{n}", f"{area} {n}", f"({area}){n}", f"{area}{n}", f"{area}-{n}-{r.randint(10, 9999)}"])


def email(r):
    user = r.choice(["zhang.wei", "li_na88", "wangfang", "chen-jie", "u" + str(r.randint(1000, 99999)), str(r.randint(10**8, 10**10))])
    return f"{user}@{r.choice(['qq.com', '163.com', 'example.com.cn', 'mail.example.org', 'gmail.com'])}"


def ip(r):
    return ".".join(str(r.randint(1, 254)) for _ in range(4))


def iban(r):
    bban = "".join(r.choice("ABCDEFGH") for _ in range(4)) + "".join(r.choice("0123456789") for _ in range(14))
    digits = "".join(str(int(c, 36)) for c in bban + "GB00")
    return f"GB{98 - int(digits) % 97:02}{bban}"


def credentials(r):
    return f"{r.choice(['admin', 'root', 'user1'])}:{r.choice(['s3cret', 'p4ss!word', '123456'])}"


def digits(r, n):
    return "".join(r.choice("0123456789") for _ in range(n))


NEGATIVE = [
    lambda r: f"订单号{r.choice(['', '：', '为'])}{r.choice(['2024', '2023'])}{r.randint(1, 12):02}{r.randint(1, 28):02}{digits(r, r.choice([6, 8, 10, 12]))}已发货",
    lambda r: f"快递单号 SF{digits(r, 13)}，请查收",
    lambda r: f"运单编号：{digits(r, r.choice([12, 15, 16]))}",
    lambda r: f"会议定于{r.randint(2000, 2030)}-{r.randint(1, 12):02}-{r.randint(1, 28):02} {r.randint(8, 20)}:{r.randint(0, 59):02}举行",
    lambda r: f"截至{r.randint(2000, 2030)}年{r.randint(1, 12)}月，总额{r.randint(1, 999)},{r.randint(100, 999)},{r.randint(100, 999)}.{r.randint(10, 99)}元",
    lambda r: f"身份证号码有误：{id_number(r, False)}，请重新填写",
    lambda r: f"卡号校验失败 {card(r, False)}",
    lambda r: f"圆周率约为3.14159265358979{digits(r, 4)}",
    lambda r: f"版本 v{r.randint(1, 9)}.{r.randint(0, 20)}.{r.randint(0, 20)} 发布，时间戳 17{digits(r, 11)}",
    lambda r: f"温度{r.randint(-20, 40)}.{r.randint(0, 9)}度，人口{digits(r, 7)}人，邮编{digits(r, 6)}",
    lambda r: f"ISBN 978-7-{digits(r, 3)}-{digits(r, 5)}-{digits(r, 1)}，定价{r.randint(20, 99)}.00元",
    lambda r: f"发票代码{digits(r, 12)}，发票号码{digits(r, 8)}",
    lambda r: f"微博话题@全体成员 参与人数{digits(r, 6)}",
    lambda r: f"std::vector<int> a[{r.randint(1, 99)}]; 时间 {r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}",
]
POSITIVE = [
    ("id-cn", id_number, ["身份证号{}", "身份证：{}。", "证件号码 {}，", "公民身份号码{}"]),
    ("card", card, ["银行卡号{}", "请转到{}这张卡", "卡号：{}，", "我的工资卡是 {}。"]),
    ("phone", mobile, ["手机{}", "请拨打{}联系", "电话：{}，", "{}是我的号码"]),
    ("phone", fixed, ["座机{}", "办公电话：{}。", "传真 {}，", "请致电{}"]),
    ("email", email, ["邮箱{}", "发到{}即可", "E-mail: {}。", "联系{}，"]),
    ("ip", ip, ["登录地址 {}", "服务器{}无响应", "来自{}的请求"]),
    ("iban", iban, ["汇款至 {}", "IBAN：{}，"]),
    ("url-credentials", credentials, ["连接 https://{}@db.example.com/x", "ftp://{}@example.org"]),
]


def made(seed, n):
    r = random.Random(seed)
    names = sorted({r.choice(SURNAMES) + "".join(r.choice(GIVEN) for _ in range(2)) for _ in range(400)})
    rows = []
    for _ in range(n):
        text, spans = "", []
        for _ in range(r.randint(1, 5)):
            kind = r.random()
            if kind < 0.45:
                what, make, forms = r.choice(POSITIVE)
                value = make(r)
                before, after = r.choice(forms).split("{}")
                spans.append((what, len(text) + len(before), len(value)))
                text += before + value + after
            elif kind < 0.6:
                name = r.choice(names)
                spans.append(("name", len(text) + 3, len(name)))
                text += "联系人" + name + r.choice(["说", "先生", "已到", "，"])
            else:
                text += r.choice(NEGATIVE)(r)
            text += r.choice(["。", "；", "\n", " ", "，"])
        rows.append((text, spans))
    return rows, names


def presidio(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as f:
        data = json.load(f)
    return [(d["full_text"], [(PRESIDIO[s["entity_type"]], s["start_position"], s["end_position"] - s["start_position"])
                              for s in d["spans"] if s["entity_type"] in PRESIDIO]) for d in data], []


def find(fathom, rows, names):
    with tempfile.TemporaryDirectory() as d:
        src, out, list_ = (os.path.join(d, n) for n in ("in.jsonl", "out.jsonl", "names.txt"))
        with open(src, "w", encoding="utf-8") as f:
            for text, _ in rows:
                f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        with open(list_, "w", encoding="utf-8") as f:
            f.write("\n".join(names) + "\n")
        subprocess.run([fathom, "data", "privacy", "-i", src, "-o", out, "--action", "report", "--quiet",
                        *(["--names", list_] if names else [])], check=True, stdout=subprocess.DEVNULL)
        with open(out, encoding="utf-8") as f:
            return [{(s["kind"], s["at"], s["length"]) for s in json.loads(line)["pii"]} for line in f]


def measure(name, fathom, rows, names, bars, show):
    good, missed, wrong = defaultdict(int), defaultdict(int), defaultdict(int)
    for (text, want), got in zip(rows, find(fathom, rows, names)):
        want = set(want)
        for k, a, n in want & got:
            good[k] += 1
        for k, a, n in want - got:
            missed[k] += 1
            if show:
                print("  missed", k, repr(text[a:a + n]), "in", repr(text[max(0, a - 20):a + n + 12]))
        for k, a, n in got - want:
            wrong[k] += 1
            if show:
                print("  wrong", k, repr(text[a:a + n]), "in", repr(text[max(0, a - 20):a + n + 12]))
    failed = False
    for k in sorted(set(good) | set(missed) | set(wrong)):
        recall = good[k] / max(1, good[k] + missed[k])
        precision = good[k] / max(1, good[k] + wrong[k])
        below = k in bars and (recall < bars[k] or precision < bars[k])
        failed = failed or below
        print(f"{name}: {k}: recall {recall:.4f}, precision {precision:.4f} ({good[k]} found, {missed[k]} missed, "
              f"{wrong[k]} wrong){' BELOW ' + str(bars[k]) if below else ''}")
    return failed


def main():
    args = sys.argv[1:]
    show = "--show" in args
    seed = int(args[args.index("--seed") + 1]) if "--seed" in args else 2
    files = [a for a in args[1:] if a.endswith((".json", ".gz"))]
    rows, names = made(seed, 4000)
    failed = measure(f"made, seed {seed}", args[0], rows, names, BARS["made"], show)
    for path in files:
        failed = measure(os.path.basename(path), args[0], *presidio(path), BARS["presidio"], show) or failed
    sys.exit(failed)


if __name__ == "__main__":
    main()
