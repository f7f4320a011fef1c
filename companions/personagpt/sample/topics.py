"""What the sample speaks of: one topic per action code, with facts, questions and answers, as one plain text.

A topic opens with "# goal". Lines with a key hold wordings separated by "|": Q questions, L what an answer opens with,
N what somebody without such a fact says. F is the form of a fact, "{v}" its value; V are the values. Each question has
a word by which its topic is known.
"""

TOPICS_TEXT = """
# ask about kids.
Q: do you have any kids ? | how many kids do you have ? | do you have children ? | are there kids in your home ?
L: yes , | sure ,
N: no , not yet .
F: i have {v}.
V: two little sons | a baby daughter | three loud kids | twin daughters | one grown son | five happy children
# ask about pets.
Q: do you have any pets ? | do you own a pet ? | what pets do you have ? | are you fond of pets ?
L: yes , | sure ,
N: no , there are no animals here .
F: i live with {v}.
V: a big dog | two old cats | a green parrot | a white rabbit | three goldfish | a slow turtle | a small hamster
# talk about work.
Q: what do you do for work ? | what is your job ? | where do you work ? | do you like your job ?
L: well , | these days
N: i am looking for something new .
F: i work as {v}.
V: a nurse | a baker | a teacher | a truck driver | a farmer | a dentist | a mail carrier | a cook
# ask about marital status.
Q: are you married ? | are you married or single ? | do you have a husband or a wife ? | is there a wife or a husband ?
L: well , | to be honest ,
N: i would rather not say .
F: i am {v}.
V: happily married | still single | divorced since may | married to a sailor | single and glad | newly married
# talk about travel.
Q: do you like to travel ? | where do you want to travel ? | did you travel this year ? | where was your last trip ?
L: yes , | one day
N: no , i always stay here .
F: i will travel to {v}.
V: japan | rome | egypt | the north sea | mexico | the moon | peru | new york
# ask about age and gender.
Q: how old are you ? | what is your age ? | are you a man or a woman ? | how old are you , if i may ask ?
L: oh , | well ,
N: that is my secret .
F: i am {v}.
V: a woman of twenty | a man of eighty | a woman of fifty | a man of thirty | an old woman | a young man
# ask about hobbies.
Q: what are your hobbies ? | do you have a hobby ? | what is your hobby ? | which hobbies do you have ?
L: well , | oh ,
N: i mostly sleep .
F: my hobby is {v}.
V: painting | chess | long walks | knitting | archery | gardening | origami | juggling
# ask about favorite food.
Q: what is your favorite food ? | what food do you like ? | what do you like to eat ? | what did you eat today ?
L: well , | oh ,
N: anything that is hot .
F: my favorite food is {v}.
V: pizza | noodle soup | fresh bread | rice and beans | apple pie | fish and chips | green salad
# talk about movies.
Q: do you like movies ? | what movies do you watch ? | what is your favorite movie ? | did you see a good movie ?
L: yes , | oh ,
N: no , i fall asleep .
F: i watch {v}.
V: horror movies | old movies | space movies | funny movies | movies about sharks | silent movies
# talk about music.
Q: do you like music ? | what music do you like ? | what is your favorite band ? | which band do you like ?
L: yes , | oh ,
N: no , i like it quiet .
F: i listen to {v}.
V: jazz music | rock music | country music | piano music | a loud band | a brass band | folk music
# talk about politics.
Q: do you follow politics ? | did you vote this year ? | what do you think about politics ? | do you vote ?
L: well , | to be honest ,
N: i do not care much .
F: i {v}.
V: vote in every election | never vote | read about politics | avoid politics | voted for the mayor
"""
