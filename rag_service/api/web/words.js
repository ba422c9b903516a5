// What the page says, in Chinese and English, and how it changes its mind about which.
//
// An element that shows words carries their key (data-word, data-label, data-placeholder) and their values, so that
// switching the language is one walk over the page and nothing on it is lost.

const WORDS = {
  zh: {
    skip: "跳到提问处",
    motto: "句句有据。",
    language: "界面语言",
    forgetKey: "清除 API 密钥",
    doorTitle: "需要 API 密钥",
    doorText: "此服务只回答带有 API 密钥的请求。请向管理员索取；管理员可用命令 youju keys create 名称 创建。",
    key: "API 密钥",
    keyHint: "密钥只保存在此标签页，关闭即清除。",
    keyRefused: "服务不接受这个密钥，请检查是否完整、是否已被撤销。",
    enter: "继续",
    library: "文档",
    uploads: "上传",
    knowledgeBase: "知识库",
    create: "新建",
    newName: "新知识库的名称",
    createIt: "创建",
    addFiles: "添加文档",
    filesHint: "选择文件，或拖放到这里。",
    noDocuments: "还没有文档。",
    more: "显示更多",
    conversation: "对话",
    newConversation: "新对话",
    emptyLead: "问问您的文档怎么说。",
    emptyText: "回答中的每一句都带有标记，点开即可看到它依据的原文。文档里没有依据时，会直说没有。",
    question: "您的问题",
    askPlaceholder: "用中文或英文提问",
    ask: "提问",
    stop: "停止",
    askHint: "Enter 提问，Shift + Enter 换行。",
    close: "关闭",
    earlier: "上文",
    later: "下文",
    delete: "删除",
    deleteNamed: "删除 {name}",
    confirmDelete: "删除“{name}”？此后它不再被检索，也不再被引用。",
    deleted: "已删除 {name}",
    dismiss: "知道了",
    dismissNamed: "移除此提示：{name}",
    uploading: "上传中",
    queued: "排队中",
    processing: "处理中",
    ready: "就绪",
    failed: "失败",
    duplicate: "已存在",
    rejected: "未接受",
    cancelled: "已取消",
    duplicateDetail: "知识库中已有内容相同的文档。",
    stateOf: "{name}：{state}",
    pages: "{count} 页",
    chunks: "{count} 段",
    you: "问",
    searching: "正在检索…",
    found: "找到 {count} 段原文，正在作答…",
    draft: "草稿，尚未核对",
    answered: "回答已核对，{count} 处引用。",
    partial: "只有部分内容有据可依；无依据的已略去。",
    partialMarked: "只有部分内容有据可依；无依据的已标出。",
    refused: "未作答",
    no_evidence: "这个知识库里没有与问题相关的内容。",
    insufficient: "找到了相近的原文，但不足以回答这个问题。",
    unsupported: "起草的回答经不起与原文的核对，因此没有给出。",
    stopped: "已停止。尚未核对的草稿已丢弃。",
    mark: "[{marker}] {name}，{verdict}",
    citation: "引用 {marker}",
    verdictSupported: "原文支持",
    verdictWeak: "支持较弱",
    verdictUnsupported: "原文不支持",
    page: "第 {page} 页",
    context: "查看上下文",
    sources: "另见",
    madeIn: "{generator} · {seconds} 秒",
    changed: "文档在此回答之后已有更新（现为第 {now} 版，引用的是第 {then} 版），因此无法在其中标出引文。",
    notThere: "这里的文字与引文不一致，因此没有标出。",
    problemNetwork: "连接不上服务",
    problemNetworkDetail: "请检查网络，或稍后再试。",
    problemEnded: "回答没有完成",
    problemEndedDetail: "连接在核对完成之前中断了，未核对的草稿已丢弃。请再问一次。",
    problemStatus: "服务返回了错误 {status}",
    retryAfter: "{seconds} 秒后可再试。",
    requestId: "请求编号 {id}",
  },
  en: {
    skip: "Skip to the question",
    motto: "Every sentence with its evidence.",
    language: "Language of this page",
    forgetKey: "Forget the API key",
    doorTitle: "An API key is needed",
    doorText:
      "This service answers only requests that carry an API key. Ask whoever runs it; they make one with: youju keys create NAME",
    key: "API key",
    keyHint: "It stays in this tab and is gone when the tab is closed.",
    keyRefused: "The service did not accept this key. Is it complete? Was it revoked?",
    enter: "Continue",
    library: "Documents",
    uploads: "Uploads",
    knowledgeBase: "Knowledge base",
    create: "New",
    newName: "Name of the new knowledge base",
    createIt: "Create",
    addFiles: "Add documents",
    filesHint: "Choose files, or drop them here.",
    noDocuments: "No documents yet.",
    more: "Show more",
    conversation: "Conversation",
    newConversation: "New conversation",
    emptyLead: "Ask what your documents say.",
    emptyText:
      "Each sentence of an answer carries a mark that opens the words it rests on. Where your documents say nothing, so does the answer.",
    question: "Your question",
    askPlaceholder: "Ask in English or Chinese",
    ask: "Ask",
    stop: "Stop",
    askHint: "Enter asks, Shift + Enter starts a new line.",
    close: "Close",
    earlier: "Earlier text",
    later: "Later text",
    delete: "Delete",
    deleteNamed: "Delete {name}",
    confirmDelete: "Delete “{name}”? From then on it is never searched and never cited.",
    deleted: "Deleted {name}",
    dismiss: "Dismiss",
    dismissNamed: "Dismiss the note about {name}",
    uploading: "Uploading",
    queued: "Queued",
    processing: "Processing",
    ready: "Ready",
    failed: "Failed",
    duplicate: "Already here",
    rejected: "Not accepted",
    cancelled: "Cancelled",
    duplicateDetail: "The knowledge base already has a document with the same content.",
    stateOf: "{name}: {state}",
    pages: "pages: {count}",
    chunks: "passages: {count}",
    you: "Question",
    searching: "Searching…",
    found: "Passages found: {count}. Answering…",
    draft: "Draft, not checked yet",
    answered: "Answer checked. Citations: {count}.",
    partial: "The documents cover only part of this; what had no evidence was left out.",
    partialMarked: "The documents support only part of this; what they do not support is marked.",
    refused: "Not answered",
    no_evidence: "Nothing in this knowledge base speaks to the question.",
    insufficient: "Passages close to the question were found, but they do not suffice to answer it.",
    unsupported: "The drafted answer did not stand up to a check against the documents, so it is not shown.",
    stopped: "Stopped. The unchecked draft was thrown away.",
    mark: "[{marker}] {name}, {verdict}",
    citation: "Citation {marker}",
    verdictSupported: "supported by the source",
    verdictWeak: "weakly supported",
    verdictUnsupported: "not supported",
    page: "page {page}",
    context: "Read in context",
    sources: "See also",
    madeIn: "{generator} · {seconds} s",
    changed:
      "The document has changed since this answer (it is now version {now}, the citation is of version {then}), so the quote cannot be marked in it.",
    notThere: "The text here differs from the quote, so nothing is marked.",
    problemNetwork: "The service cannot be reached",
    problemNetworkDetail: "Check the connection, or try again later.",
    problemEnded: "The answer did not finish",
    problemEndedDetail: "The connection ended before the check did, so the draft was thrown away. Please ask again.",
    problemStatus: "The service answered with error {status}",
    retryAfter: "It can be tried again in {seconds} s.",
    requestId: "Request {id}",
  },
};

const TAGS = { zh: "zh-CN", en: "en" };
const STORED = "youju.language";

let current = "en";

export function preferredLanguage() {
  const stored = localStorage.getItem(STORED);
  if (stored !== null && Object.hasOwn(WORDS, stored)) return stored;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export function useLanguage(language) {
  current = language;
  document.documentElement.lang = TAGS[language];
  for (const element of document.querySelectorAll("[data-word], [data-label], [data-placeholder]")) refresh(element);
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  }
}

export function rememberLanguage(language) {
  localStorage.setItem(STORED, language);
}

/** The words of `key`; a key this page does not know yet (a new state of the service, say) stands for itself. */
export function word(key, values = {}) {
  return (WORDS[current][key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** Show the words of `key` as the element's text, now and after every change of language. */
export function say(element, key, values = {}) {
  element.dataset.word = key;
  return remember(element, values);
}

/** The same for its accessible name. A value of the form {word: key} is itself translated. */
export function label(element, key, values = {}) {
  element.dataset.label = key;
  return remember(element, values);
}

export function languageTag(language) {
  return TAGS[language] ?? "";
}

function remember(element, values) {
  element.dataset.values = JSON.stringify(values);
  refresh(element);
  return element;
}

function refresh(element) {
  const { word: text, label: name, placeholder, values } = element.dataset;
  const spoken = translated(JSON.parse(values ?? "{}"));
  if (text) element.textContent = word(text, spoken);
  if (name) element.setAttribute("aria-label", word(name, spoken));
  if (placeholder) element.placeholder = word(placeholder, spoken);
}

function translated(values) {
  const entries = Object.entries(values);
  return Object.fromEntries(entries.map(([name, value]) => [name, value?.word ? word(value.word) : value]));
}
