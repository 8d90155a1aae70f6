# small_data.sh FOLDER - a text, dialogues (which serve as prompts too) and ranked answers on which a tiny model can be taught in a moment.
awk -v out="$1" 'BEGIN {
    for (i = 0; i < 300; i++) {
        print "The cat number " i " sees a dog and a house near river " i % 7 "." >(out "/text.txt")
        if (i > 60) continue
        printf "{\"prompt\":\"Who sees %d?\",\"response\":\"The cat sees %d.\"}\n", i, i >(out "/chats.jsonl")
        printf "{\"prompt\":\"Who sees %d?\",\"chosen\":\"The cat.\",\"rejected\":\"A dog %d.\"}\n", i, i >(out "/ranked.jsonl")
    }
}'
