#!/usr/bin/env python3
"""An agent for the platform: one JSON document on standard input, one on standard output.

It plans, works and reviews by counting words. Put a call of your model in its place.
"""
import json
import sys


def analyze(task):
    """Splits a task into work items, one for each sentence."""
    sentences = [s.strip() for s in task["description"].split(".") if s.strip()]
    items = [
        {"id": f"{task['taskId']}-{n}", "description": sentence, "type": "implementation"}
        for n, sentence in enumerate(sentences, 1)
    ]
    return {"workItems": items, "estimatedDuration": 60 * len(items)}


def execute(item):
    """Does one work item. `prompt` is there when a review asked for more."""
    words = (item.get("prompt") or item["description"]).split()
    return {"success": True, "output": f"{len(words)} words, the longest is {max(words, key=len)}"}


def review(review):
    """Judges the results; the first round is sent back when a result is short."""
    short = [r["workItemId"] for r in review["results"] if len(r["result"]["output"]) < 20]
    if not short or review["round"] > 0:
        return {"approved": True}
    rework = [{"workItemId": id, "prompt": "say more about it"} for id in short]
    return {"approved": False, "feedback": "too short", "rework": rework}


def main():
    work = json.load(sys.stdin)
    ask = work["ask"]
    if ask == "analyze":
        answer = analyze(work["task"])
    elif ask == "execute":
        answer = execute(work["item"])
    elif ask == "review":
        answer = review(work["review"])
    else:
        answer = {"error": f"cannot {ask}", "retryable": False}
    json.dump(answer, sys.stdout)


main()
