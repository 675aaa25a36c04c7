"use strict";
/* The words of the page. Every key stands in each language; a test compares them with what the page uses. */
const words = {
  en: {
    skip: "Skip to content", views: "Views", chat: "Chat", metrics: "Metrics", runs: "Runs",
    model: "Model", newChat: "New chat", settings: "Settings", system: "System prompt", temperature: "Temperature",
    topP: "Top-p", topK: "Top-k", repetition: "Repetition penalty", maxTokens: "Most tokens", seed: "Seed", key: "API key",
    conversation: "Conversation", message: "Message", messageHint: "Write a message. Enter sends, Shift+Enter breaks the line.",
    send: "Send", stop: "Stop", again: "Regenerate", you: "You", assistant: "Assistant", thinking: "Thinking",
    writing: "Writing ...", stopped: "Stopped.", done: "Done", failed: "Failed", tokens: "tokens", perSecond: "tokens/s",
    noModel: "This server's model does not chat.", needKey: "The server asks for an API key: open Settings.",
    sinceStart: "Since the start", kind: "Kind", all: "all", reload: "Reload", run: "Run", state: "State",
    started: "Started", time: "Time", results: "Results", close: "Close", report: "Report", noRuns: "There are no runs.",
    runsOff: "Runs are not shown here: start the server with --runs.", updated: "Updated every 2 seconds",
    generated: "Tokens generated per second", read: "Prompt tokens per second", requests: "Requests", running: "running",
    waiting: "waiting", cache: "KV cache in use (%)", first: "Time to first token (s)", memory: "Memory (MiB)",
    cpu: "Processor (% of one core)", answers: "Answers per second", errors: "errors", good: "good", now: "now",
    rowPrompt: "Prompt tokens", rowGenerated: "Generated tokens", rowHits: "Prompt tokens found in the cache",
    rowFinished: "Requests finished", rowFirst: "Mean time to first token (s)", rowErrors: "Answers 4xx / 5xx",
    rowUptime: "Seconds since the start"
  },
  zh: {
    skip: "跳到正文", views: "视图", chat: "对话", metrics: "监控", runs: "运行记录",
    model: "模型", newChat: "新对话", settings: "设置", system: "系统提示词", temperature: "温度",
    topP: "Top-p", topK: "Top-k", repetition: "重复惩罚", maxTokens: "最多词元数", seed: "随机种子", key: "API 密钥",
    conversation: "对话内容", message: "消息", messageHint: "输入消息。回车发送，Shift+回车换行。",
    send: "发送", stop: "停止", again: "重新生成", you: "你", assistant: "助手", thinking: "思考过程",
    writing: "正在生成……", stopped: "已停止。", done: "完成", failed: "失败", tokens: "词元", perSecond: "词元/秒",
    noModel: "此服务的模型不支持对话。", needKey: "服务需要 API 密钥：请打开“设置”填写。",
    sinceStart: "启动以来", kind: "类型", all: "全部", reload: "刷新", run: "运行", state: "状态",
    started: "开始时间", time: "用时", results: "结果", close: "关闭", report: "报告", noRuns: "没有运行记录。",
    runsOff: "此处未开放运行记录：启动服务时请加 --runs。", updated: "每 2 秒更新",
    generated: "每秒生成词元", read: "每秒提示词元", requests: "请求", running: "运行中",
    waiting: "排队中", cache: "KV 缓存占用（%）", first: "首词元延迟（秒）", memory: "内存（MiB）",
    cpu: "处理器（单核百分比）", answers: "每秒应答", errors: "错误", good: "正常", now: "当前",
    rowPrompt: "提示词元", rowGenerated: "生成词元", rowHits: "命中缓存的提示词元",
    rowFinished: "已完成请求", rowFirst: "平均首词元延迟（秒）", rowErrors: "4xx / 5xx 应答",
    rowUptime: "启动至今秒数"
  }
};
let lang = localStorage.getItem("lang") || (navigator.language.startsWith("zh") ? "zh" : "en");
const t = key => words[lang][key];
function translate() {
  document.documentElement.lang = lang === "zh" ? "zh-CN" : "en";
  for (const e of document.querySelectorAll("[data-t]")) e.textContent = t(e.dataset.t);
  for (const e of document.querySelectorAll("[data-t-label]")) e.setAttribute("aria-label", t(e.dataset.tLabel));
  for (const e of document.querySelectorAll("[data-t-hint]")) e.placeholder = t(e.dataset.tHint);
  for (const e of document.querySelectorAll("[data-t-title]")) e.title = t(e.dataset.tTitle);
  const b = document.getElementById("lang"), other = lang === "zh" ? "English" : "中文";
  b.textContent = other;
  b.lang = lang === "zh" ? "en" : "zh";
  b.setAttribute("aria-label", other);
}
