// The page: its parts, and what they have to do with each other.
import { Answering } from "./answering.js";
import { ChatList } from "./chat_list.js";
import { Chats } from "./chats.js";
import { Composer } from "./composer.js";
import { installDialogs } from "./confirm.js";
import { addMessage, messageOf, showVersion } from "./conversation.js";
import { byId } from "./dom.js";
import { readLocal, writeLocal } from "./local.js";
import { ModelState } from "./model_state.js";
import { showModel } from "./model_view.js";
import { installNotices } from "./notices.js";
import { readSampling } from "./sampling.js";
import { SettingsDialog } from "./settings_dialog.js";
import { openStore } from "./store.js";
import { installThemeSwitch } from "./theme.js";
import { Thread } from "./thread.js";

const SYSTEM = "llorch.system"; // the system prompt with which new chats begin
const SHOWN = "llorch.shown"; // the chat that is shown after a reload

async function main() {
  installThemeSwitch(byId("theme"));
  installDialogs();
  const { notify, announce } = installNotices();
  const store = await openStore();
  const chats = new Chats(store);
  await chats.load();
  const model = new ModelState();
  const answering = new Answering(chats, model, readSampling);
  chats.isGrowingHere = conversation => answering.isRunning(conversation);

  /** Whether the message was taken; while an answer comes, none is. */
  function ask(conversation, parent, text) {
    if (answering.isRunning(conversation)) return false;
    answering.answer(conversation, addMessage(conversation, parent, "user", text));
    return true;
  }
  const actions = {
    edit: (message, text) => {
      const isTaken = ask(chats.current, message.parent, text);
      if (!isTaken) notify("Wait for the answer, or stop it.");
      return isTaken;
    },
    again: message => {
      const asked = messageOf(chats.current, message.parent);
      if (asked) answering.answer(chats.current, asked); // an imported chat may begin with an answer
    },
    show: message => {
      showVersion(chats.current, message);
      chats.save(chats.current);
      thread.update();
    },
  };
  const thread = new Thread(answering, actions, announce);
  const composer = new Composer(
    text => ask(chats.current, chats.current.leaf, text),
    () => answering.stop(chats.current),
  );
  const begin = () => {
    chats.begin(readLocal(SYSTEM) ?? "");
    composer.focus();
  };
  const remove = async conversation => {
    answering.stop(conversation);
    await chats.remove(conversation);
  };
  const list = new ChatList(chats, answering, { onNew: begin, onDelete: remove });
  new SettingsDialog(chats, model, {
    say: notify,
    onSystem: text => {
      chats.current.system = text;
      writeLocal(SYSTEM, text);
      chats.save(chats.current);
    },
    onDeleteAll: () => {
      for (const conversation of chats.list) answering.stop(conversation);
      chats.clear();
    },
  });

  function showCurrent() {
    const { current } = chats;
    const title = current.title || "New chat";
    byId("chat-title").textContent = title;
    document.title = current.title ? `${title} · llorch` : "llorch";
    composer.setRunning(answering.isRunning(current));
  }

  chats.addEventListener("current", () => {
    writeLocal(SHOWN, chats.current.id);
    thread.show(chats.current);
    list.update();
    showCurrent();
  });
  chats.addEventListener("list", () => {
    list.update();
    showCurrent();
  });
  chats.addEventListener("message", ({ detail }) => thread.schedule(detail.conversation));
  chats.addEventListener("storage", ({ detail }) => notify(detail.message));
  answering.addEventListener("start", ({ detail }) => {
    if (detail.conversation !== chats.current) return;
    writeLocal(SHOWN, chats.current.id);
    thread.update();
    thread.scrollToEnd();
    showCurrent();
    announce("The model answers.");
  });
  answering.addEventListener("end", ({ detail: { conversation, message } }) => {
    list.update();
    if (conversation !== chats.current) return;
    thread.update();
    showCurrent();
    announce(message.status === "done" ? `Answer: ${message.content}` : message.note);
    if (!model.name) model.check();
  });
  model.addEventListener("change", () => showModel(model));

  chats.show(chats.get(readLocal(SHOWN)) ?? chats.current);
  if (!chats.current.messages.length) begin();
  if (!store.isLasting) notify("This browser forbids storage: chats are gone when the page is closed.");
  addEventListener("visibilitychange", () => document.visibilityState === "visible" && !model.isReady && model.check());
  await model.check();
}

main();
